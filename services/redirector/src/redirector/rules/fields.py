"""Reads single fields from the headers of a request."""

from collections.abc import Iterable


def field_values(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    """Return the values of all fields called `name` (given in lower case)."""
    return [value for key, value in headers if len(key) == len(name) and key.lower() == name]


def field_value(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str:
    """Return the value of a header; several fields of one name are one list (RFC 9110, 5.3)."""
    return b",".join(field_values(headers, name)).decode("latin-1")
