"""Answers the requests that the handler cannot answer from the local cache alone.

These are requests with a query, a path after the code or percent-encoded characters, previews,
links with rules, passwords, limited links, and methods other than GET and HEAD.
"""

import asyncio
from collections.abc import AsyncIterable, Callable
from dataclasses import dataclass, replace

from redirector.client_address import ClientAddresses
from redirector.counts import LOCAL_HITS, Counts
from redirector.domains.cache import Domain, Domains
from redirector.links.renewal import Fresh
from redirector.links.request import READING_METHODS, Request
from redirector.links.respond import Respond
from redirector.links.visits import Taken, Visits
from redirector.lookup.lookup import LinkEntry, Lookup
from redirector.passwords.unlock import Unlock
from redirector.responses.responses import Response, Responses
from redirector.rules.fields import field_value
from redirector.rules.methods import READ, Methods, allowed
from redirector.rules.pasted import Clean, clean_path
from redirector.rules.paths import read_path
from redirector.rules.resolve import Ask, Decision, Outcome, over, resolve
from shortcore.errors import DatabaseUnavailable
from shortcore.links.record import LinkKey, LinkRecord, link_key

MAX_QUERY = 8192
"""Maximum characters of a query, which is the default maximum of a target."""

MAX_REST = 8192
"""Maximum characters of the path after a code."""

MAX_FORM = 4096
"""Maximum bytes of a password form."""

FORM_WITHIN_S = 10.0
"""Maximum time for a password form to arrive, in seconds."""

_PLACES = frozenset({"/", "/robots.txt", "/favicon.ico"})
_USABLE = frozenset({Outcome.REDIRECT, Outcome.COUNT, Outcome.PASSWORD, Outcome.PREVIEW})
_LEAVES = frozenset({Outcome.REDIRECT, Outcome.COUNT})

_ATTEMPTS = 3
"""Maximum decisions about a visit-limited link that is edited meanwhile."""


class RedirectService:
    """Answers requests for short links.

    `fresh` returns an entry of the local cache, `rejects` says which keys need no lookup
    (`existence`), and `lookup` finds the other keys. `forwards` says whether 307 and 308 also
    redirect methods that change something.
    """

    def __init__(
        self,
        responses: Responses,
        domains: Domains,
        fresh: Fresh,
        rejects: Callable[[LinkKey], bool],
        lookup: Lookup,
        visits: Visits,
        unlock: Unlock,
        client_addresses: ClientAddresses,
        respond: Respond,
        counts: Counts,
        now_ms: Callable[[], int],
        *,
        forwards: bool,
        clean: Clean = clean_path,
    ) -> None:
        self._clean = clean
        self._responses = responses
        self._domains = domains
        self._fresh = fresh
        self._rejects = rejects
        self._lookup = lookup
        self._visits = visits
        self._unlock = unlock
        self._client_addresses = client_addresses
        self._respond = respond
        self._values = counts.values
        self._now_ms = now_ms
        self._forwards = forwards
        self._fixed = {
            Outcome.DISABLED: responses.disabled,
            Outcome.EXPIRED: responses.loop,  # because it leads back
            Outcome.GONE: responses.gone,
            Outcome.PASSWORD: responses.password,
        }

    async def respond(self, request: Request) -> Response:
        """Return the response to a request, and count it."""
        response = await self._response(request)
        return self._respond(
            response,
            request.method,
            request.domain.host,
            request.target,
            request.headers,
            request.peer,
        )

    async def _response(self, request: Request) -> Response:
        """Answer a short URL that was pasted with extra characters (`pasted`)."""
        path, _, query = request.target.partition("?")
        pasted = self._clean(path)
        if pasted is None:
            return await self._response_to(request, path, query)
        if pasted.repeated:
            response = await self._response_to(request, path, query)
            if response is not request.domain.not_found:
                return response
        query = "&".join(filter(None, (pasted.query, query)))
        response = await self._response_to(request, pasted.path, query)
        status = 302 if request.method in READING_METHODS else 307
        return self._responses.cleaned(response, status)

    async def _response_to(self, request: Request, path: str, query: str) -> Response:  # noqa: PLR0911  # one a rule, in their order
        if len(query) > MAX_QUERY:
            return self._responses.too_long
        reads = request.method in READING_METHODS
        domain = request.domain
        if domain.closed is not None:
            return domain.closed
        asked = read_path(path)
        if asked is None:
            if not reads and path in _PLACES:
                return self._unlike_get(request, READ)
            return self._place(path, domain)
        if len(asked.rest) > MAX_REST:
            return self._responses.too_long
        if not domain.host:
            return self._responses.unavailable  # it may be a domain with its own links
        key = link_key(domain.host, domain.spelled(asked.code))
        entry = await self._find(domain, key)
        if entry is None:
            return self._responses.unavailable
        if reads and entry.response is not None and not (asked.rest or asked.preview):
            return entry.response
        ask = Ask(query, asked.rest, asked.preview)
        visit = _Visit(request, path, key, entry.renewed)
        if reads:
            return await self._carry_out(visit, entry.record, ask)
        return await self._with_other_method(visit, entry.record, ask)

    async def _with_other_method(self, visit: "_Visit", record: LinkRecord, ask: Ask) -> Response:
        decision = resolve(record, ask, self._now_ms())
        if decision.outcome not in _USABLE:
            return self._page(visit, record, decision)
        methods = allowed(decision, forwards=self._forwards)
        method = visit.request.method
        if method not in methods or method == "OPTIONS":
            return self._unlike_get(visit.request, methods)
        if decision.outcome is not Outcome.PASSWORD:
            return await self._carry_out(visit, record, ask)
        form = await self._form(visit.request.body)
        if isinstance(form, Response):
            return form
        return await self._posted(visit, record, ask, form)

    def _unlike_get(self, request: Request, methods: Methods) -> Response:
        """Return the response that names the allowed methods: 204 to OPTIONS, otherwise 405."""
        responses = self._responses
        return (responses.options if request.method == "OPTIONS" else responses.not_allowed)[
            methods
        ]

    async def _form(self, body: AsyncIterable[bytes] | None) -> bytes | Response:
        """Read a form, unless it is too long or too slow."""
        form = b""
        if body is None:
            return form
        try:
            async with asyncio.timeout(FORM_WITHIN_S):
                async for piece in body:
                    form += piece
                    if len(form) > MAX_FORM:
                        return self._responses.too_large
        except TimeoutError:
            return self._responses.too_late
        return form

    async def _find(self, domain: Domain, key: LinkKey) -> LinkEntry | None:
        entry = self._fresh(key)
        if entry is not None:
            self._values[LOCAL_HITS] += 1
            return entry
        if self._rejects(key):
            return domain.not_found_entry
        return await self._lookup.find(key)

    def without_code(self, path: str, domain: Domain) -> Response | None:
        """Return the response to GET of a fixed path, such as `/`; None for others."""
        if domain.closed is not None:
            return domain.closed
        if (read_path(path) or self._clean(path)) is not None:
            return None
        return self._place(path, domain)

    def _place(self, path: str, domain: Domain) -> Response:
        match path:
            case "/":
                return domain.home
            case "/robots.txt":
                return self._responses.robots
            case "/favicon.ico":
                return self._responses.no_icon
        return domain.not_found

    async def _carry_out(self, visit: "_Visit", record: LinkRecord, ask: Ask) -> Response:
        now_ms = self._now_ms()
        decision = resolve(record, ask, now_ms)
        if decision.outcome is Outcome.PASSWORD and self._unlock.proves(
            visit.key, record, visit.request.headers
        ):
            ask = replace(ask, unlocked=True)
            decision = resolve(record, ask, now_ms)
        if decision.outcome in _LEAVES and self._leads_back(visit, decision):
            return self._responses.loop
        if decision.outcome is Outcome.COUNT:
            return await self._count(visit, record, ask, decision)
        if decision.outcome is Outcome.REDIRECT:
            if ask.unlocked:
                return self._responses.unstored(decision.location, 303, record.link_id)
            ends_ms = record.expires_at_ms
            left_s = None if ends_ms is None else (ends_ms - now_ms) // 1000
            return self._responses.of_link(
                visit.key, record, decision.location, left_s=left_s, in_use=visit.in_use
            )
        return self._page(visit, record, decision)

    def _leads_back(self, visit: "_Visit", decision: Decision) -> bool:
        return self._domains.own.leads_back(decision.location, visit.request.host)

    def _page(self, visit: "_Visit", record: LinkRecord, decision: Decision) -> Response:
        match decision.outcome:
            case Outcome.PREVIEW:
                return self._responses.preview(record, visit.key)
            case Outcome.EXPIRED if not self._leads_back(visit, decision):
                return self._responses.expired(decision.location, record.link_id)
            case Outcome.NOT_YET:
                return self._responses.not_yet(record.valid_from_ms or 0)
            case Outcome.NOT_FOUND:
                return visit.request.domain.not_found
        return self._fixed[decision.outcome]

    async def _count(  # noqa: PLR0911  # one a rule, in their order
        self, visit: "_Visit", record: LinkRecord, ask: Ask, decision: Decision
    ) -> Response:
        """Redirect only if PostgreSQL has counted this visit of exactly this version.

        Link previews, prefetches and HEAD (`visits`) need a visit that is left, and use up none.
        """
        request = visit.request
        for _ in range(_ATTEMPTS):
            try:
                taken = await self._visits.take(
                    visit.key, record.version, request.method, request.headers
                )
            except DatabaseUnavailable:
                return self._responses.unavailable  # fail closed: the limit is a promise
            if taken is Taken.PREVIEW:
                return self._responses.preview_of_limited(record, visit.key)
            if taken is not None:
                status = 303 if ask.unlocked else decision.status
                return self._responses.unstored(decision.location, status, record.link_id)
            entry = await self._lookup.newest(visit.key)
            if entry is None:
                return self._responses.unavailable
            if entry.record.version == record.version:
                return self._page(visit, record, over(record, ask))
            if entry.record.password_hash != record.password_hash:
                ask = replace(ask, unlocked=False)
            record = entry.record
            decision = resolve(record, ask, self._now_ms())
            if decision.outcome is not Outcome.COUNT or self._leads_back(visit, decision):
                return await self._carry_out(replace(visit, in_use=False), record, ask)
        return self._responses.unavailable

    async def _posted(self, visit: "_Visit", record: LinkRecord, ask: Ask, form: bytes) -> Response:
        request, key = visit.request, visit.key
        headers = request.headers
        proven = self._unlock.proves(key, record, headers)
        if not proven:
            peer = request.peer[0] if request.peer else None
            forwarded = field_value(headers, b"x-forwarded-for")
            client = self._client_addresses.address(peer, forwarded)
            refusal = await self._unlock.refusal(key, record, client, headers, form)
            if refusal is not None:
                return refusal
        # The link may have been edited while the check waited for its turn.
        entry = await self._find(request.domain, key)
        if entry is None:
            return self._responses.unavailable
        # (A link that lost its password meanwhile still gets a 303: a 307 would send the form on.)
        unlocked = entry.record.password_hash in {None, record.password_hash}
        response = await self._carry_out(
            replace(visit, in_use=False), entry.record, replace(ask, unlocked=unlocked)
        )
        if proven or not unlocked:
            return response  # a cookie must not renew itself, or it would be valid for ever
        return self._unlock.remember(response, key, record, visit.path, headers)


@dataclass(frozen=True, slots=True)
class _Visit:
    request: Request
    path: str
    key: LinkKey
    in_use: bool
