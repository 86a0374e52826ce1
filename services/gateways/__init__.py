"""Four chat systems on one mesh: each gateway speaks its own protocol to its own clients."""
