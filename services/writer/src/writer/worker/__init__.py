"""Counts clicks: reads the click streams of Redis and writes statistics to PostgreSQL."""
