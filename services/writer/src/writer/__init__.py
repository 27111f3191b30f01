"""The API: creates and edits links in PostgreSQL and publishes them to Redis."""
