"""SQL that writes an event of links in the statement that changes them.

So an acknowledged change is never without its event, and an event never without its change. Without
a webhook that wants the event, PostgreSQL looks at the few rows of `webhooks` and writes nothing.
"""

SNAPSHOT = """to_jsonb(l) - 'password_hash'
    || jsonb_build_object('has_password', l.password_hash IS NOT NULL)"""
"""The row `l` of a link as an event keeps it: with all its columns except the password."""


def wanted(event: str) -> str:
    """Return the condition that an enabled webhook wants `event`, an SQL expression."""
    return f"EXISTS (SELECT FROM webhooks WHERE enabled AND {event} = ANY (events))"  # of constants


def insert_events(event: str, host: str, source: str, condition: str = "true") -> str:
    """Return the INSERT of an event for each row `l` of `source`, if a webhook wants it.

    All arguments are SQL that the caller writes: expressions for the type of the event and the host
    of the link, a FROM item that provides `l`, and which of its rows count.
    """
    return f"""INSERT INTO webhook_events (type, host, link)
    SELECT {event}, {host}, {SNAPSHOT} FROM {source} WHERE {wanted(event)} AND ({condition})"""  # noqa: S608  # of constants
