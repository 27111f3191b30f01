"""Responses, pages and headers. Nothing here does I/O."""
