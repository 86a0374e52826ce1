"""The chat's store on Redis."""
