"""The Switchboard broker. The version alone: importing this pulls in no server code."""

__version__ = "0.1.0"
