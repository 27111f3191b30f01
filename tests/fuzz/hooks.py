"""Tells schemathesis what no schema can say: which URLs and hosts there are, which fields go together.

It only makes data valid that is meant to be. What is meant to be invalid is sent as it comes.
"""

import itertools
import re
import zlib
from datetime import UTC, datetime
from typing import Any

import schemathesis
from hypothesis import strategies as st
from schemathesis import GenerationMode

from writer.domains.schemas import CreateDomain
from writer.http.cursors import (
    DeliveryCursor,
    DomainCursor,
    KeyCursor,
    ValueCursor,
    encode,
    encode_cursor,
)
from writer.http.entity_tags import ETAGS_SCHEMA
from writer.keys.schemas import CreateKey
from writer.links.schemas import CreateLink

HOST = "localhost"
MAX_TARGET = 60
KNOWN = ("known0", "known1", "known2")
"""Codes of links that the test creates."""

OWN_KEY = 1
"""Id of the key that the requests are sent with."""

_PATH = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=30)
_LABEL = st.from_regex(r"[a-zA-Z0-9]([a-zA-Z0-9-]{0,20}[a-zA-Z0-9])?", fullmatch=True).filter(
    lambda label: label[2:4] != "--"
)
_INSTANT = st.datetimes(
    min_value=datetime(2030, 1, 1),  # noqa: DTZ001  # the zone is added
    max_value=datetime(9999, 12, 29),  # noqa: DTZ001
)

_URL = "https://example.com/"

schemathesis.openapi.format(
    "uri",
    # The longest one by itself: it would hardly be found by chance.
    st.builds(f"{_URL}{{}}".format, _PATH) | st.just(_URL.ljust(MAX_TARGET, "a")),
)
schemathesis.openapi.format("idn-hostname", st.builds("{}.test".format, _LABEL))
schemathesis.openapi.format(
    "date-time",
    st.builds(
        lambda at, zone: at.isoformat(timespec="milliseconds") + zone,
        _INSTANT,
        st.sampled_from(["Z", "z", "+01:00", "-05:30"]),
    ),
)


@schemathesis.serializer("application/jsonl")
def as_it_is(context: Any, value: Any) -> bytes:
    del context
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Change what would be refused for a reason beyond the schema."""
    del context, kwargs
    if case.meta is not None and case.meta.generation.mode is GenerationMode.POSITIVE:
        _name_a_known_link(case)
        _lead_elsewhere(case.body)
        _make_body_consistent(case)
        _make_unique(case)
        _make_conditions_valid(case)
        _make_period_valid(case)
        if case.query and "cursor" in case.query:
            case.query["cursor"] = _cursor_of(case)
    elif isinstance(case.body, dict) and not _IGNORED.isdisjoint(case.body):
        # Whatever is wrong in an ignored field is accepted, so an unknown field takes its place.
        known = {name: each for name, each in case.body.items() if name not in _IGNORED}
        case.body = known | {"not_a_field": True}
    _spare_own_key(case)


def _cursor_of(case: Any) -> str:
    if case.operation.path.endswith("/keys"):
        return encode(KeyCursor(5))
    if case.operation.path.endswith("/domains"):
        return encode(DomainCursor("a.test"))
    if case.operation.path.endswith("/deliveries"):
        return encode(DeliveryCursor(5))
    if case.operation.path.endswith("/stats/{dimension}"):
        dimension = case.path_parameters["dimension"]
        by = case.query.get("by", "clicks" if dimension == "bot" else "visits")
        return encode(ValueCursor(dimension, by, (-5, -4, "DE")))
    return encode_cursor(case.query.get("sort", "-created_at"), _A_TIME, 5)


def _make_period_valid(case: Any) -> None:
    # A schema knows neither which dates and zones exist, nor how long a period may be.
    if "/stats" not in case.operation.path or not case.query:
        return
    if not case.query.keys().isdisjoint({"from", "to"}):
        as_times = "T" in str(case.query.get("from", "")).upper()
        case.query |= dict(zip(("from", "to"), _TIMES if as_times else _DATES, strict=True))
    if "timezone" in case.query:
        case.query["timezone"] = _ZONES[zlib.crc32(str(case.query["timezone"]).encode()) % 3]


def _name_a_known_link(case: Any) -> None:
    if "{code}" in case.operation.path:
        number = zlib.crc32(str(case.path_parameters["code"]).encode())
        if number % 2:  # the others are not found
            case.path_parameters |= {"domain": HOST, "code": KNOWN[number % len(KNOWN)]}


def _make_body_consistent(case: Any) -> None:
    path, body = case.operation.path, case.body
    if path.endswith(":batch"):
        for item in body["items"]:
            _make_consistent(item)
            item.pop("find_if_exists", None)
    elif path.endswith(":import"):
        case.body = _file_of(case.media_type)
    elif "/links" in path and isinstance(body, dict):
        _make_consistent(body)
        if "{code}" in path:
            _leave_address_out(body)
    elif path.endswith("{host}") and isinstance(body, dict):
        _leave_address_out(body)
    elif "/webhooks" in path and isinstance(body, dict):
        _give_thresholds(body)


def _make_conditions_valid(case: Any) -> None:
    # A number that stands for "no such header" is sent although the pattern refuses it.
    for name in ("If-Match", "If-None-Match"):
        if case.headers and not _ETAGS.fullmatch(str(case.headers.get(name, "*"))):
            del case.headers[name]


def _lead_elsewhere(value: Any) -> None:
    # A short URL of an earlier response, which is sent as a target, would be refused as a circle.
    # Changed in place: schemathesis judges a body that is replaced again, also by formats that
    # the API does not check.
    if not isinstance(value, dict | list):
        return
    for place, each in [*(value.items() if isinstance(value, dict) else enumerate(value))]:
        if isinstance(each, str) and each.startswith(f"http://{HOST}/"):
            value[place] = _URL
        else:
            _lead_elsewhere(each)


def _leave_address_out(body: dict[str, Any]) -> None:
    # It would have to be that of the path.
    for name in ("code", "domain", "host"):
        body.pop(name, None)


def _give_thresholds(webhook: dict[str, Any]) -> None:
    # The event needs a threshold, also if one of both is set and the webhook has the other already.
    if "thresholds" in webhook and not webhook["thresholds"]:
        webhook.setdefault("events", ["link.created"])
    if "visits.threshold" in webhook.get("events", ()) and not webhook.get("thresholds"):
        webhook["thresholds"] = [1]


def _make_unique(case: Any) -> None:
    # An Idempotency-Key that was used with another request is refused.
    if case.headers and "Idempotency-Key" in case.headers:
        unique = f"{next(_NUMBERS)}{case.headers['Idempotency-Key']}"
        case.headers["Idempotency-Key"] = unique[:255].rstrip()


_NUMBERS = itertools.count()
_DATES = ("2025-03-30", "2025-04-06")
_TIMES = ("2025-03-30T00:15:00+05:45", "2025-04-06T12:30:00Z")
_ZONES = ("Europe/Berlin", "Australia/Lord_Howe", "UTC")
_ETAGS = re.compile(ETAGS_SCHEMA["pattern"])
_IGNORED = CreateLink.read_only | CreateDomain.read_only | CreateKey.read_only
_A_TIME = datetime(2025, 1, 1, tzinfo=UTC)


def _spare_own_key(case: Any) -> None:
    if case.path_parameters and str(case.path_parameters.get("key_id")).strip("+0") == str(OWN_KEY):
        case.path_parameters["key_id"] = 999


def _make_consistent(link: dict[str, Any]) -> None:
    if link.get("domain") is not None:
        link["domain"] = HOST
    # An end lies in the future, and after the beginning, also after the one that the link has.
    if link.get("expires_at") is not None:
        if str(link["expires_at"]) < "2030":  # a time of an earlier response
            link["expires_at"] = "2030-01-01T00:00:00Z"
        link["valid_from"] = None
    elif "valid_from" in link:
        link["expires_at"] = None
    if link.get("find_if_exists"):
        link.pop("password", None)


def _file_of(media_type: str) -> str:
    if media_type == "text/csv":
        return "target,code\nhttps://example.com/,\nnowhere,\n"
    return '{"target": "https://example.com/"}\n{"target": "nowhere"}\n'
