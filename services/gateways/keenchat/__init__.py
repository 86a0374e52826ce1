"""Keenchat: users, channels and messages over REST, and what is new over Socket.IO."""
