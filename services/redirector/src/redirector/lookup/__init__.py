"""Finds a link in the local cache, Redis, or PostgreSQL."""
