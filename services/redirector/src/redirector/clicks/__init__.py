"""Captures clicks and sends them to Redis."""
