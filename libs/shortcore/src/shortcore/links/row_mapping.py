"""Converts a row of `links` to the record that Redis and the redirector keep."""

from typing import Any, Protocol

from shortcore.links.record import Kind, LinkRecord, is_simple_target

RECORD_COLUMNS = """
    l.version, l.enabled, l.deleted_at IS NOT NULL AS deleted, l.id, l.target, l.redirect_status,
    (extract(epoch FROM l.valid_from) * 1000)::bigint AS valid_from_ms,
    (extract(epoch FROM l.expires_at) * 1000)::bigint AS expires_at_ms,
    l.expired_target, l.max_visits IS NOT NULL AS limited, l.password_hash,
    l.forward_query, l.forward_path, l.title,
    (extract(epoch FROM l.created_at) * 1000)::bigint AS created_at_ms
"""
"""The columns of `links AS l` that `record_of` needs."""


class Row(Protocol):
    """A row of a query: a record of asyncpg, which is not a Mapping, or a dict."""

    def __getitem__(self, column: str, /) -> Any: ...


def record_of(row: Row) -> LinkRecord:
    """Return the record of a row that was selected with RECORD_COLUMNS.

    The record of a deleted link has its version and id only: the other fields of a link in the trash
    must not be cached.
    """
    if row["deleted"]:
        return LinkRecord(row["version"], Kind.DELETED, row["id"])
    return LinkRecord(
        version=row["version"],
        kind=Kind.ACTIVE if row["enabled"] else Kind.DISABLED,
        link_id=row["id"],
        target=row["target"],
        redirect_status=row["redirect_status"],
        valid_from_ms=row["valid_from_ms"],
        expires_at_ms=row["expires_at_ms"],
        expired_target=row["expired_target"],
        limited=row["limited"],
        password_hash=row["password_hash"],
        forward_query=row["forward_query"],
        forward_path=row["forward_path"],
        title=row["title"],
        created_at_ms=row["created_at_ms"],
        simple_target=is_simple_target(row["target"]),
    )
