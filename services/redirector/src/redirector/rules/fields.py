"""Reads single fields from the headers of a request."""

from collections.abc import Iterable


def field_values(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    """Return the values of all fields called `name` (given in lower case)."""
    return [value for key, value in headers if len(key) == len(name) and key.lower() == name]
