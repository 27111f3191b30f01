"""Errors as RFC 9457 problems: one format, stable types, a pointer to each invalid field."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from shortcore.errors import URN, FieldError, InvalidInput, MalformedRequest, ShortlinksError

MEDIA_TYPE: Final = "application/problem+json"

MAX_ERRORS: Final = 50
"""Broken rules that one response lists; it also says how many there are."""

MAX_ERRORS_OF_MANY: Final = 8
"""Broken rules that are listed for each item of a batch and for each row of an import."""

_MAX_POINTER = 200
_MAX_DETAIL = 1000

# pydantic changes its names between releases; these names are part of the API.
_RULES = {
    "missing": "required",
    "extra_forbidden": "unknown-field",
    "string_too_long": "length",
    "string_too_short": "length",
    "too_long": "length",
    "too_short": "length",
    "literal_error": "choice",
    "enum": "choice",
    "greater_than": "range",
    "greater_than_equal": "range",
    "less_than": "range",
    "less_than_equal": "range",
    "string_unicode": "encoding",
    "int_parsing": "type",
    "int_parsing_size": "range",
}
_SENTENCES = {
    "missing": "This field is required.",
    "extra_forbidden": "This field is unknown.",
    "string_unicode": "The text has a lone surrogate, which is not a character.",
}
_OWN_RULES = frozenset(
    {"nul", "encoding", "instant", "range", "charset", "length", "type", "choice", "step"}
)


class ProblemField(msgspec.Struct, frozen=True):
    """One broken rule."""

    pointer: str
    rule: str
    detail: str


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of an error response: RFC 9457, with `errors` as in its section 3."""

    type: str
    title: str
    status: int
    detail: str
    instance: str = ""
    errors: list[ProblemField] = []


def problem_of(
    error: ShortlinksError, request_id: str = "", max_errors: int = MAX_ERRORS
) -> Problem:
    """Return the problem for `error`; `request_id` identifies the request in the logs.

    It lists the first `max_errors` broken rules.
    """
    detail = error.detail
    if (more := len(error.fields) - max_errors) > 0:
        detail += f" The first {max_errors} are listed, {more} are not."
    return Problem(
        type=URN + error.type,
        title=error.title,
        status=error.status,
        detail=_printable(detail, _MAX_DETAIL),
        instance=f"urn:shortlinks:request:{request_id}" if request_id else "",
        errors=[
            ProblemField(
                _printable(f.pointer, _MAX_POINTER), f.rule, _printable(f.detail, _MAX_DETAIL)
            )
            for f in error.fields[:max_errors]
        ],
    )


def problem_response(error: ShortlinksError, request_id: str) -> tuple[bytes, dict[str, str]]:
    """Return the body and the headers of the response for `error`."""
    headers = {"content-type": MEDIA_TYPE, "cache-control": "no-store"}
    if error.retry_after_s is not None:
        headers["retry-after"] = str(error.retry_after_s)
    if error.status == 401:  # noqa: PLR2004  # RFC 9110, 15.5.2 requires the header for this status
        headers["www-authenticate"] = 'Bearer realm="shortlinks"'
    return msgspec.json.encode(problem_of(error, request_id)), headers


def error_of_validation(
    errors: Iterable[Mapping[str, Any]], at: str | None = None
) -> ShortlinksError:
    """Return one error for all of pydantic's errors.

    `at` is the JSON pointer of the validated value. It is None if the framework validated the
    request; the locations then start with the part of the request.
    """
    fields = []
    for error in errors:
        if error["type"] == "json_invalid":
            return MalformedRequest(
                f"The body is not valid JSON at character {error['loc'][-1]}: "
                f"{error['ctx']['error']}."
            )
        fields.append(_field(error, at))
    return InvalidInput(_summary(fields), fields=fields)


def invalid(fields: Sequence[FieldError]) -> InvalidInput:
    """Return the error that names `fields`."""
    return InvalidInput(_summary(fields), fields=fields)


def pointer(parts: Iterable[str | int]) -> str:
    """Return the JSON pointer (RFC 6901) to `parts`."""
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in parts)


def _field(error: Mapping[str, Any], at: str | None) -> FieldError:
    kind = str(error["type"])
    rule = kind if kind in _OWN_RULES else _RULES.get(kind, "type")
    detail = _SENTENCES.get(kind, str(error["msg"]).rstrip(".") + ".")
    if at is not None:
        return FieldError(at + pointer(error["loc"]), rule, detail)
    place, *rest = error["loc"] or ("body",)
    if place in {"query", "header", "path"}:
        return FieldError(f"?{rest[0]}" if place == "query" else str(rest[0]), rule, detail)
    return FieldError(pointer(rest), rule, detail)


def _summary(fields: Sequence[FieldError]) -> str:
    if len(fields) == 1:
        return fields[0].detail
    return f"{len(fields)} rules are broken; `errors` lists them."


def _printable(text: str, most: int) -> str:
    return text[:most].encode("utf-8", "backslashreplace").decode()
