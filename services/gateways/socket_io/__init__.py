"""Socket.IO for the gateways that speak it: python-socketio, with bounds and without surprises."""
