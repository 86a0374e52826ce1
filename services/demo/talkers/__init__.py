"""Clients of the four chat systems, each in its own protocol, all in the room `public`."""
