"""The gateway of the Redis chat: JSON over a plain WebSocket."""
