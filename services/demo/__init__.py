"""The demo of the chat: its programs, started and watched over, and a conversation through all."""
