"""The gateway of the rooms: JSON over a plain WebSocket."""
