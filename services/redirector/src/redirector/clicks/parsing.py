"""Converts a request to a click: parses the headers and hashes the client's address.

Results are cached, because many requests have the same user agent, referrer, language or address.
"""

from typing import Any, TypeAlias

from redirector.clicks.fields import (
    country_code,
    is_prefetch,
    preferred_language,
    referrer_host,
)
from redirector.clicks.geo import GeoDatabase
from redirector.clicks.user_agent import MAX_AGENT, agent_text, is_bot
from redirector.clicks.utm import MARK, NO_CAMPAIGN, campaign_of
from redirector.client_address import ClientAddresses
from redirector.responses.responses import Response
from shortcore.clicks.visitors import DAY_MS, Visitors
from shortcore.clicks.wire import Flag, Row
from shortcore.settings.clicks import ClickSettings

Headers: TypeAlias = list[tuple[bytes, bytes]]
Peer: TypeAlias = "tuple[str, int] | None"

_REMEMBERED = 4096
"""Maximum entries of each cache; a full cache is emptied, so that its memory is bounded."""
_MAX_NAME = 64
_MAX_FORWARDED = 256
_MAX_REFERRER = 256
_MAX_LANGUAGES = 128
_MAX_COUNTRY = 2

_AGENT, _REFERRER, _FORWARDED, _LANGUAGES, _PURPOSE, _COUNTRY, _OPT_OUT = range(1, 8)
_PARTS = {
    "user-agent": _AGENT,
    "referer": _REFERRER,
    "x-forwarded-for": _FORWARDED,
    "accept-language": _LANGUAGES,
    "sec-purpose": _PURPOSE,
    "purpose": _PURPOSE,
    "x-purpose": _PURPOSE,
    "x-moz": _PURPOSE,
}
_OPT_OUTS = {"dnt": _OPT_OUT, "sec-gpc": _OPT_OUT}
"""Do Not Track, and Global Privacy Control: with the value 1, the visitor asks not to be tracked."""
_HEADS = frozenset({"HEAD", b"HEAD"})

# Plain numbers: an operation on an enum's members costs more than all the rest of a click.
_BOT, _HEAD, _PREFETCH = int(Flag.BOT), int(Flag.HEAD), int(Flag.PREFETCH)


class ClickParser:
    """Makes clicks; visitors are hashed with a salt that is derived from `secret` every day."""

    def __init__(
        self,
        settings: ClickSettings,
        secret: bytes,
        client_addresses: ClientAddresses,
        geo: GeoDatabase,
        now_ms: int,
    ) -> None:
        self._secret = secret
        self._client_addresses = client_addresses
        self._geo = geo
        self._parts = _PARTS | (_OPT_OUTS if settings.clicks_respect_dnt else {})
        if settings.geoip_country_header is not None:
            self._parts[settings.geoip_country_header.lower()] = _COUNTRY
        self._visitors = Visitors(secret, now_ms // DAY_MS)
        self._names: dict[bytes, int] = {}
        self._agents: dict[bytes, tuple[str, int]] = {}
        self._hosts: dict[bytes, str] = {}
        self._languages: dict[bytes, str] = {}
        self._origins: dict[tuple[str | None, bytes, bytes], tuple[bytes, str]] = {}

    def begin(self, at_ms: int) -> None:
        """Use the salt of the day of `at_ms` for all following clicks."""
        if at_ms // DAY_MS != self._visitors.day:
            self._visitors = Visitors(self._secret, at_ms // DAY_MS)
            self.forget_places()

    def forget_places(self) -> None:
        """Look up the place of every address again."""
        self._origins.clear()

    def click(  # noqa: C901, PLR0912  # calls would cost as much as the rest
        self,
        followed: Response,
        method: Any,
        host: str,
        target: str,
        headers: Headers,
        peer: Peer,
        at_ms: int,
    ) -> Row:
        """Return the click of a request that follows a link."""
        agent = forwarded = languages = country = b""
        referrer = ""
        opted_out = False
        more_forwarded: list[bytes] | None = None
        flags = followed.template.click_flags
        part_of = self._names.get
        for name, text in headers:
            part = part_of(name)
            if part is None:
                part = self._learn(name)
            if part:
                if part == _AGENT:
                    agent = text
                elif part == _REFERRER:
                    referrer = self._hosts.get(text) or self._host_of(text)
                elif part == _FORWARDED:  # several fields are one list (RFC 9110, 5.3)
                    if not forwarded:
                        forwarded = text
                    else:
                        more_forwarded = more_forwarded or []
                        more_forwarded.append(text)
                elif part == _LANGUAGES:
                    languages = text
                elif part == _COUNTRY:
                    country = text if len(text) <= _MAX_COUNTRY else b""
                elif part == _OPT_OUT:
                    opted_out |= text == b"1"
                elif is_prefetch(text):
                    flags |= _PREFETCH
        if more_forwarded:
            forwarded = b",".join((forwarded, *more_forwarded))
        read, bot = self._agents.get(agent) or self._read_agent(agent)
        flags |= bot
        if method in _HEADS:
            flags |= _HEAD
        if opted_out:
            return (followed.link_id, at_ms, flags, b"", "", "", "", "", NO_CAMPAIGN, host, "")
        address = peer[0] if peer else None
        origin = self._origins.get((address, forwarded, country))
        if origin is None:
            origin = self._locate(address, forwarded, country)
        return (
            followed.link_id,
            at_ms,
            flags,
            origin[0],
            read,
            referrer,
            origin[1],
            (self._languages.get(languages) or self._read_languages(languages))
            if languages
            else "",
            campaign_of(target) if MARK in target else NO_CAMPAIGN,
            host,
            "",
        )

    def _learn(self, name: bytes) -> int:
        # Names have the spelling that the client sent; a dictionary of known spellings is faster
        # than lowering every name of every request.
        part = self._parts.get(name.decode("latin-1").lower(), 0)
        if len(name) <= _MAX_NAME:
            _remember(self._names, name, part)
        return part

    def _host_of(self, referrer: bytes) -> str:
        host = referrer_host(referrer)
        if len(referrer) <= _MAX_REFERRER:
            _remember(self._hosts, referrer, host)
        return host

    def _read_agent(self, agent: bytes) -> tuple[str, int]:
        read = agent_text(agent), _BOT if is_bot(agent) else 0
        if len(agent) <= MAX_AGENT:
            _remember(self._agents, agent, read)
        return read

    def _read_languages(self, languages: bytes) -> str:
        language = preferred_language(languages)
        if len(languages) <= _MAX_LANGUAGES:
            _remember(self._languages, languages, language)
        return language

    def _locate(self, peer: str | None, forwarded: bytes, country: bytes) -> tuple[bytes, str]:
        """Return the pseudonym and the place of a client."""
        address = self._client_addresses.address(peer, forwarded.decode("latin-1"))
        place = self._geo.place(address)
        if country and peer is not None and self._client_addresses.trusts(peer):
            code = country_code(country)
            if code and place[:2] != code:
                place = code
        origin = self._visitors.name(address), place
        if len(forwarded) <= _MAX_FORWARDED:
            _remember(self._origins, (peer, forwarded, country), origin)
        return origin


def _remember(cache: dict[Any, Any], key: Any, value: Any) -> None:
    if len(cache) >= _REMEMBERED:
        cache.clear()
    cache[key] = value
