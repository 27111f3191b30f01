"""Reads the password from a posted body, which is a form or JSON."""

from urllib.parse import parse_qs

import msgspec

_FIELDS = 8
"""Maximum fields of a form."""


class Unreadable(ValueError):
    """The body does not match its Content-Type."""


class Unsupported(ValueError):
    """The Content-Type of the body is not supported."""


class _Json(msgspec.Struct):
    password: str


_decoder = msgspec.json.Decoder(_Json)


def read_password(content_type: str, body: bytes) -> str:
    """Return the password, perhaps empty; a body without a type counts as a form.

    Raises Unreadable or Unsupported.
    """
    match content_type.partition(";")[0].strip().lower():
        case "" | "application/x-www-form-urlencoded":
            return _of_form(body)
        case "application/json":
            return _of_json(body)
    raise Unsupported(content_type)


def _of_form(body: bytes) -> str:
    try:
        fields = parse_qs(
            body.decode("utf-8"),
            keep_blank_values=True,  # a second password must not hide behind an empty one
            max_num_fields=_FIELDS,
            errors="strict",
        )
    except ValueError as error:
        raise Unreadable from error
    values = fields.get("password", [])
    if len(values) != 1:
        raise Unreadable
    return values[0]


def _of_json(body: bytes) -> str:
    try:
        return _decoder.decode(body).password
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable from error
