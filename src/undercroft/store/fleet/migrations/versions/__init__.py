"""One module per revision of the schema, oldest first. A revision that was released never changes."""
