"""Converts a request to a click: parses the headers and hashes the client's address.

Results are cached, because many requests have the same user agent, referrer or address.
"""

from typing import Any, Protocol, TypeAlias

from redirector.clicks.user_agent import MAX_AGENT, agent_class, is_prefetch, referrer_host
from redirector.client_address import ClientAddresses
from shortcore.clicks.visitors import DAY_MS, Visitors
from shortcore.clicks.wire import Click, Flag

Headers: TypeAlias = list[tuple[bytes, bytes]]
Peer: TypeAlias = "tuple[str, int] | None"

_REMEMBERED = 4096
"""Maximum entries of each cache; a full cache is emptied, so that its memory is bounded."""
_MAX_NAME = 64
_MAX_FORWARDED = 256
_MAX_REFERRER = 256

_AGENT, _REFERRER, _FORWARDED, _PURPOSE = 1, 2, 3, 4
_PARTS = {
    "user-agent": _AGENT,
    "referer": _REFERRER,
    "x-forwarded-for": _FORWARDED,
    "sec-purpose": _PURPOSE,
    "purpose": _PURPOSE,
    "x-purpose": _PURPOSE,
    "x-moz": _PURPOSE,
}
_HEADS = frozenset({"HEAD", b"HEAD"})

# Plain numbers: an operation on an enum's members costs more than all the rest of a click.
_BOT, _HEAD, _PREFETCH = int(Flag.BOT), int(Flag.HEAD), int(Flag.PREFETCH)


class Followed(Protocol):
    """What names the link that a visitor follows: a response or a record."""

    @property
    def link_id(self) -> int:
        """The id of the link."""


class ClickParser:
    """Makes clicks; visitors are hashed with a salt that is derived from `secret` every day."""

    def __init__(self, secret: bytes, client_addresses: ClientAddresses, now_ms: int) -> None:
        self._secret = secret
        self._client_addresses = client_addresses
        self._visitors = Visitors(secret, now_ms // DAY_MS)
        self._names: dict[Any, int] = {}
        self._agents: dict[bytes, tuple[str, int]] = {}
        self._hosts: dict[bytes, str] = {}
        self._origins: dict[tuple[Any, bytes], bytes] = {}

    def begin(self, at_ms: int) -> None:
        """Use the salt of the day of `at_ms` for all following clicks."""
        if at_ms // DAY_MS != self._visitors.day:
            self._visitors = Visitors(self._secret, at_ms // DAY_MS)
            self._origins.clear()

    def click(
        self, followed: Followed, method: Any, headers: Headers, peer: Peer, flags: int, at_ms: int
    ) -> Click:
        """Return the click of a request that follows a link; `flags` are set in addition."""
        agent, referrer, forwarded, seen = self._fields(headers)
        kind, bot = self._agents.get(agent) or self._classify(agent)
        flags |= seen | bot | (_HEAD if method in _HEADS else 0)
        origin = self._origin(peer, forwarded)
        return Click(followed.link_id, at_ms, flags, origin, kind, referrer)

    def _fields(self, headers: Headers) -> tuple[bytes, str, bytes, int]:
        """Return user agent, referrer's host, X-Forwarded-For, and PREFETCH or 0."""
        agent = forwarded = b""
        referrer = ""
        flags = 0
        names = self._names.get
        for name, text in headers:
            part = names(name)
            if part is None:
                part = self._learn(name)
            if part:
                if part == _AGENT:
                    agent = text
                elif part == _REFERRER:
                    referrer = self._hosts.get(text) or self._host_of(text)
                elif part == _FORWARDED:  # several fields are one list (RFC 9110, 5.3)
                    forwarded = forwarded + b"," + text if forwarded else text
                elif is_prefetch(text):
                    flags = _PREFETCH
        return agent, referrer, forwarded, flags

    def _learn(self, name: bytes) -> int:
        # Names have the spelling that the client sent; a dictionary of known spellings is faster
        # than lowering every name of every request.
        part = _PARTS.get(name.decode("latin-1").lower(), 0)
        if len(name) <= _MAX_NAME:
            _remember(self._names, name, part)
        return part

    def _host_of(self, referrer: bytes) -> str:
        host = referrer_host(referrer)
        if len(referrer) <= _MAX_REFERRER:
            _remember(self._hosts, referrer, host)
        return host

    def _classify(self, agent: bytes) -> tuple[str, int]:
        kind = agent_class(agent)
        found = kind, _BOT if kind == "bot" else 0
        if len(agent) <= MAX_AGENT:
            _remember(self._agents, agent, found)
        return found

    def _origin(self, peer: Peer, forwarded: bytes) -> bytes:
        host = peer[0] if peer else None
        key = host, forwarded
        origin = self._origins.get(key)
        if origin is None:
            origin = self._visitors.name(
                self._client_addresses.address(host, forwarded.decode("latin-1"))
            )
            if len(forwarded) <= _MAX_FORWARDED:
                _remember(self._origins, key, origin)
        return origin


def _remember(memo: dict[Any, Any], key: Any, value: Any) -> None:
    if len(memo) >= _REMEMBERED:
        memo.clear()
    memo[key] = value
