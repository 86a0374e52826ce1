"""What stands on the broker: the SDK and the command line."""
