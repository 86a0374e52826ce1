"""The chat domain: users, rooms, messages and who is there, as a service of the mesh."""
