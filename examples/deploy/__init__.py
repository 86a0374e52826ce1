"""The examples for deployment."""
