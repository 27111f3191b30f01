"""The redirector inside uvicorn's own HTTP protocol: hot answers never reach ASGI.

A hit on the local cache is written to the socket from the parser's callback, as bytes made when
the link was cached: no task, no scope, no messages. Everything else (misses, pages, passwords,
requests behind one that waits, draining) takes uvicorn's ordinary way into the ASGI application.
llhttp parses in both cases, so both read requests alike.
"""

import asyncio
from time import perf_counter

from redirector.app import Redirector
from redirector.respond import Answer, Plain, status_line
from redirector.serve.asgi import SAMPLE, header
from shortcore.health import Phase
from shortcore.protocol import BoundedProtocol

_END = b"\r\n\r\n"
_SHARED = 1024


def direct_protocol(redirector: Redirector) -> type[BoundedProtocol]:  # noqa: C901  # counts a whole class
    """Return the protocol class to give to uvicorn as `http`.

    A class made in a function, as uvicorn makes the instances: what the hot path needs are its
    closure's cells, faster than any attribute.
    """
    hot = redirector.hot
    domains = redirector.domains
    health = redirector.health
    observe = redirector.sampled.observe
    capture = redirector.tracking.capture
    start_of = Starts()
    ready = Phase.READY
    seen = 0

    class DirectProtocol(BoundedProtocol):
        """One connection. Its keep-alive timer looks once a period instead of once a request."""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
            super().connection_made(transport)
            self.answered = False
            self.heard = True
            self.idle_check = self.loop.call_later(self.timeout_keep_alive, self.check_idle)
            self.write = transport.write

        def connection_lost(self, exc: Exception | None) -> None:
            self.idle_check.cancel()
            super().connection_lost(exc)

        def check_idle(self) -> None:
            """Close a connection that sent nothing for a whole period and waits for nothing."""
            waiting = self.cycle is not None and not self.cycle.response_complete  # type: ignore[redundant-expr]  # None at first
            if not self.heard and not waiting:
                self.transport.close()
                return
            self.heard = False
            self.idle_check = self.loop.call_later(self.timeout_keep_alive, self.check_idle)

        def data_received(self, data: bytes) -> None:
            self.heard = True
            super().data_received(data)

        def on_message_begin(self) -> None:
            # The scope is made when it is known that ASGI is needed.
            self.url = b""
            self.headers = []
            self.answered = False
            self.in_head = True
            self.head_bytes = 0

        def on_header(self, name: bytes, value: bytes) -> None:
            self.headers.append((name, value))

        def on_headers_complete(self) -> None:
            nonlocal seen
            self.in_head = False
            parser = self.parser
            method = parser.get_method()
            cycle = self.cycle
            if (
                (method == b"GET" or method == b"HEAD")  # noqa: PLR1714  # faster than a set
                and (cycle is None or cycle.response_complete)  # type: ignore[redundant-expr]  # None at first
                and not self.flow.write_paused
                and health.phase is ready
                and parser.should_keep_alive()
                and not parser.should_upgrade()
                and parser.get_http_version() == "1.1"
            ):
                seen += 1
                started = 0.0 if seen % SAMPLE else perf_counter()
                domain = domains.default if domains.single else domains.of_header(self.host())
                entry = hot(domain.host + self.url.decode("latin-1"))
                if entry is not None:
                    self.answered = True
                    answer = entry.answer
                    date = self.server_state.default_headers[0][1]
                    if isinstance(answer, Plain):
                        self.write(
                            answer.head + entry.record.target.encode() + answer.tail + date + _END
                        )
                        capture(entry.record, method, self.headers, self.client, 0)
                    elif answer is not None:
                        body = b"" if method == b"HEAD" else answer.body
                        self.write(start_of(answer) + date + _END + body)
                    if started:
                        observe(perf_counter() - started)
                    return
            self.into_asgi()

        def host(self) -> str:
            return header(self.headers, b"host")

        def into_asgi(self) -> None:
            url, headers = self.url, self.headers
            super().on_message_begin()
            self.url = url
            for name, value in headers:
                super().on_header(name, value)
            super().on_headers_complete()

        def on_body(self, body: bytes) -> None:
            if not self.answered:
                super().on_body(body)

        def on_message_complete(self) -> None:
            if not self.answered:
                super().on_message_complete()

    return DirectProtocol


class Starts:
    """The bytes of an answer up to the value of its Date header, made once for each shared page."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Answer, bytes]] = {}

    def __call__(self, answer: Answer) -> bytes:
        """Return the status line and the headers."""
        known = self._known.get(id(answer))
        if known is not None:
            return known[1]
        if len(self._known) >= _SHARED:  # pages of domains that were edited since
            self._known.clear()
        lines = [name + b": " + value + b"\r\n" for name, value in answer.headers]
        start = status_line(answer.status) + b"".join(lines) + b"date: "
        self._known[id(answer)] = (answer, start)  # held, so that its id is nobody else's
        return start
