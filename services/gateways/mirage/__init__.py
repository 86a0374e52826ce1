"""Mirage: rooms and messages over Socket.IO, under names without passwords."""
