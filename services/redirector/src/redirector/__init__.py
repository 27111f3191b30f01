"""Answers look-ups: local cache, then Redis, then PostgreSQL."""
