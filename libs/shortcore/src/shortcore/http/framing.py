"""The rules of RFC 9112 and RFC 9110 that a request's head must follow before it is answered.

The parser (llhttp) finds the end of a message. These rules decide whether the application gets it, and
which host and path it is for. Every server applies them before its application runs.
"""

import re
from collections import Counter

MAX_HOST = 255
"""Maximum length of a host name in bytes, that of DNS (RFC 1035, section 2.3.4)."""

Fields = list[tuple[bytes, bytes]]

RULES = (
    "authorization", "connect", "host", "internal", "length", "syntax", "target", "timeout",
    "trailers", "transfer-encoding", "version",
)  # fmt: skip
"""The names of all rules, which docs/http.md explains."""

refused: Counter[str] = Counter()
"""Number of requests that this process refused, by the rule that they broke."""

_OWS = b" \t"
_HOST = re.compile(
    rb"(?:\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._~!$&'()*+,;=%%-]{0,%d})(?::[0-9]{0,5})?" % MAX_HOST
)
_ABSOLUTE = re.compile(rb"https?://([^/?]*)(.*)", re.IGNORECASE | re.DOTALL)
_ONCE = frozenset({b"host", b"authorization"})


class Refused(Exception):
    """A request breaks a rule: `rule` is a stable name, the text a sentence for its sender.

    The connection is closed after the response, as the end of the message may be in doubt.
    """

    def __init__(self, status: int, rule: str, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.rule = rule


def admit(method: bytes, version: str, target: bytes, fields: Fields) -> bytes:
    """Return the target in origin form (`/path?query`), and set the host of the request in `fields`.

    Names in `fields` are in lower case. The authority of a target in absolute form replaces Host
    (RFC 9112, section 3.2.2). Raises Refused.
    """
    if method == b"CONNECT":
        raise Refused(501, "connect", "This server is not a proxy: CONNECT is not implemented.")
    if version not in {"1.0", "1.1"}:
        raise Refused(505, "version", "Use HTTP/1.1 or HTTP/1.0.")
    _check_fields(version, fields)
    if target.startswith(b"/"):
        return target.partition(b"#")[0]
    absolute = _ABSOLUTE.fullmatch(target.partition(b"#")[0])
    if absolute is None or not absolute[1] or not is_host(absolute[1]):
        raise Refused(400, "target", "The request target is neither a path nor an http URL.")
    fields[:] = [(b"host", absolute[1]), *(field for field in fields if field[0] != b"host")]
    path = absolute[2]
    return path if path.startswith(b"/") else b"/" + path


def is_host(value: bytes) -> bool:
    """Return whether this is a valid value of a Host field: a host and optionally a port."""
    return _HOST.fullmatch(value) is not None


def without_upgrade(method: bytes, version: str, target: bytes, fields: Fields) -> bytes:
    """Return the head of the same request without Upgrade (RFC 9110, section 7.8).

    The head is built from the fields that the parser has read, so it is parsed in the same way.
    """
    lines = [name + b": " + value + b"\r\n" for name, value in fields if name.lower() != b"upgrade"]
    start = method + b" " + target + b" HTTP/" + version.encode("ascii") + b"\r\n"
    return start + b"".join(lines) + b"\r\n"


def _check_fields(version: str, fields: Fields) -> None:
    seen = set()
    for place, (name, value) in enumerate(fields):
        if name in _ONCE:
            if name in seen:
                raise Refused(400, name.decode("ascii"), f"Send one {name.decode().title()} field.")
            seen.add(name)
            if name == b"host":
                host = value.rstrip(_OWS)
                if not is_host(host):
                    raise Refused(400, "host", "Host is a host name and perhaps a port.")
                fields[place] = (name, host)
        elif name == b"transfer-encoding":
            if version == "1.0":
                raise Refused(400, "transfer-encoding", "HTTP/1.0 has no Transfer-Encoding.")
            if value.rstrip(_OWS).lower() != b"chunked":
                raise Refused(
                    501, "transfer-encoding", "The one Transfer-Encoding here is chunked."
                )
    if b"host" not in seen and version == "1.1":
        raise Refused(400, "host", "A request of HTTP/1.1 needs a Host field.")
