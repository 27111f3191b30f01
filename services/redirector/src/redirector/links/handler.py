"""The handler of every request for a short link. The HTTP adaptors call it.

`handle` returns the response to a local cache hit at once, without any I/O. Otherwise it returns an
awaitable of the response: `Pending` while a lookup runs, or a coroutine of the service.
"""

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from redirector.counts import LOCAL_HITS, Counts
from redirector.links.existence import ScanFilter
from redirector.links.pending import Pending, Work
from redirector.links.renewal import Fresh
from redirector.links.request import READING_METHODS, Request
from redirector.links.respond import Respond
from redirector.links.service import RedirectService
from redirector.lookup.lookup import LinkCache, LinkEntry, Lookup
from redirector.lookup.scan_detection import ScanDetector
from redirector.responses.responses import Response
from redirector.rules.paths import is_code
from shortcore.links.record import LinkKey

Later: TypeAlias = Pending | Work
Handle: TypeAlias = Callable[[Request], Response | Later]


def make_handle(
    cache: LinkCache,
    fresh: Fresh,
    scan: ScanDetector,
    scan_filter: ScanFilter,
    lookup: Lookup,
    service: RedirectService,
    unavailable: Response,
    respond: Respond,
    counts: Counts,
    clock: Callable[[], float],
) -> Handle:
    """Return the handler.

    It is a function, and reads the entries of the cache itself: a local cache hit costs a lookup,
    a look at the clock, a comparison and two additions.
    """
    find, values = cache.entries.get, counts.values
    reject, with_rules = scan_filter.reject, service.respond
    look_up = _Miss(lookup, service, unavailable, respond).look_up

    def handle(request: Request) -> Response | Later:
        if request.method not in READING_METHODS:
            return with_rules(request)
        domain, target = request.domain, request.target
        key = domain.host + target
        entry: LinkEntry | None = find(key)  # type: ignore[call-overload]  # any string may be requested
        if entry is not None and (clock() < entry.refresh_at or fresh(key) is not None):  # type: ignore[arg-type]  # a link's key now
            response = entry.response
            if response is None:  # it depends on the request or on the time
                return with_rules(request)
            if not entry.visited:  # most are, and reading is cheaper than writing
                entry.visited = True
            values[LOCAL_HITS] += 1
            return respond(request, response, entry.record)
        now = clock()
        if now < scan.until and (rejection := reject(domain, target, key, now)) is not None:
            return respond(request, rejection)
        return look_up(request)

    return handle


class _Miss:
    """Answers GET and HEAD for what is not in the local cache."""

    def __init__(
        self, lookup: Lookup, service: RedirectService, unavailable: Response, respond: Respond
    ) -> None:
        self._ask = lookup.ask
        self._service = service
        self._unavailable = unavailable
        self._respond = respond

    def look_up(self, request: Request) -> Response | Later:
        """Start a lookup of a link that is named by its code alone; the rest is the service's."""
        domain, target = request.domain, request.target
        code = target[1:]
        if (
            domain.host
            and is_code(code)
            and target[0] == "/"
            and not (domain.case_insensitive and domain.spelled(code) != code)
        ):
            pending = Pending()
            key: LinkKey = domain.host + target  # type: ignore[assignment]  # LinkKey() is a call
            self._ask(key, partial(self._settle, request, pending))
            return pending
        if "?" not in target:
            response = self._service.without_code(target, domain)
            if response is not None:
                return self._respond(request, response)
        return self._service.respond(request)

    def _settle(self, request: Request, pending: Pending, entry: LinkEntry | None) -> None:
        if entry is None:
            pending.settle(self._respond(request, self._unavailable))
        elif entry.response is None:
            pending.settle(self._service.respond(request))
        else:
            pending.settle(self._respond(request, entry.response, entry.record))
