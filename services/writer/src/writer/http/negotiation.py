"""Chooses between JSON and CSV by the header Accept (RFC 9110, 12.5.1)."""

from typing import Final

from writer.http.json_route import JSON

CSV: Final = "text/csv"

_MAX_RANGES = 32
_ANY = ("*/*",)


def prefers_csv(accept: str | None) -> bool:
    """Return whether a client wants CSV rather than JSON; JSON is the default."""
    qualities: dict[str, float] = {}
    for each in (accept or "").lower().split(",")[:_MAX_RANGES]:
        name, *parameters = (part.strip() for part in each.split(";"))
        qualities[name] = _quality(parameters)
    csv, json = (_of(kind, qualities) for kind in (CSV, JSON))
    # `text/csv, */*` names CSV and means it.
    return csv > json or (csv == json > 0 and CSV in qualities and JSON not in qualities)


def _of(kind: str, qualities: dict[str, float]) -> float:
    ranges = (kind, f"{kind.partition('/')[0]}/*", *_ANY)
    return next((qualities[name] for name in ranges if name in qualities), 0.0)


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return min(max(float(value), 0.0), 1.0)
            except ValueError:
                return 0.0
    return 1.0
