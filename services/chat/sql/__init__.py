"""The chat's store on SQLite and PostgreSQL."""
