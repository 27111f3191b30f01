"""`make steps`: what one redirect from the local cache costs, step by step, in µs of processor time.

The real protocol, cache and click capture of a redirector, in one process without a socket: each
step is run many times alone, the whole, too. What the kernel and the loop take for a socket stands
in no step; `make bench` shows it, as the rate of `noop direct`.
"""

import asyncio
import sys
import time
from collections.abc import Callable
from typing import Any

import httptools
import uvicorn
import uvloop
from uvicorn.server import ServerState

from bench.report import RESULTS
from bench.requests import HOST
from redirector.container import Redirector, open_redirector
from redirector.http.asgi import application
from redirector.http.fast_protocol import direct_protocol
from redirector.responses.responses import Plain
from shortcore.links.record import Kind, LinkKey, LinkRecord, link_key
from shortcore.runtime.gc_tuning import collect_seldom
from shortcore.runtime.health import Phase
from shortcore.settings.redirector import RedirectorSettings

LINKS = 10_000
CALLS = 20_000
AT_ONCE = 64
"""Requests in a turn of the loop, after which their clicks are read."""

ROUNDS = 5
AGENT = b"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
HEADERS = [
    (b"Host", HOST.encode()),
    (b"User-Agent", AGENT),
    (b"Accept", b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    (b"Accept-Language", b"en-US,en;q=0.5"),
    (b"Accept-Encoding", b"gzip, deflate, br"),
    (b"Referer", b"https://news.example.org/2026/spring"),
    (b"X-Forwarded-For", b"203.0.113.7"),
]
"""What a browser sends through a load balancer; the benchmark's requests have a Host alone."""

CAPTURE = "capture the click: one append"
LATER = "off its way: read the click (agent, referrer, address hashed)"
REST = "the protocol's own checks"
WHOLE = "together"


class Deaf:
    """A transport that hears nothing."""

    def write(self, data: bytes) -> None:
        """Take bytes."""

    def get_extra_info(self, name: str) -> Any:
        """Answer as a connection from a proxy on this host would."""
        return ("127.0.0.1", 1) if name in {"peername", "sockname"} else None

    def is_closing(self) -> bool:
        """Say that it is open."""
        return False


class Parsed:
    """Callbacks of a parser that keep what the protocol keeps."""

    def on_message_begin(self) -> None:
        self.url, self.headers = b"", []

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        pass

    def on_message_complete(self) -> None:
        pass


async def main() -> int:
    """Print and write the table."""
    settings = RedirectorSettings(
        postgres_url="postgresql://nobody@127.0.0.1:1/none",  # type: ignore[arg-type]
        redis_url="redis://127.0.0.1:1",  # type: ignore[arg-type]
        code_secret="of the benchmark alone",  # type: ignore[arg-type]
        default_domain=HOST,
    )
    redirector = await open_redirector(settings)
    redirector.health.phase = Phase.READY
    collect_seldom()
    steps = measure(redirector)
    rows = [f"| {name} | {us:.2f} |" for name, us in steps.items()]
    text = "\n".join(["| step | µs |", "| --- | ---: |", *rows]) + "\n"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "steps.md").write_text(text)
    print(text)
    return 0


def measure(redirector: Redirector) -> dict[str, float]:  # noqa: C901  # counts its inner functions
    """Return the µs of each step."""
    keys, requests = filled(redirector)
    protocol = connection(redirector)
    parser = httptools.HttpRequestParser(Parsed())
    entries = [redirector.cache.entries[key] for key in keys]
    fast_path, click_capture = redirector.fast_path, redirector.click_capture
    date = b"Tue, 24 Nov 2026 12:00:00 GMT"
    write = Deaf().write

    def compose(number: int) -> None:
        entry = entries[number]
        response = entry.response
        if isinstance(response, Plain):
            write(response.head + entry.record.target.encode() + response.tail + date + b"\r\n\r\n")

    def capture(number: int) -> None:
        click_capture.capture(entries[number].record, b"GET", HEADERS, ("127.0.0.1", 1), 0)

    def read(number: int) -> None:
        if number % AT_ONCE == 0:
            click_capture._read(AT_ONCE)  # noqa: SLF001  # what a turn of the loop calls

    def empty() -> None:
        """Take away what nobody sends."""
        click_capture._ring.clear()  # noqa: SLF001
        for stream in click_capture.streams:
            stream.waiting = 0

    def click(number: int) -> None:
        capture(number)
        read(number)

    def whole(number: int) -> None:
        protocol.data_received(requests[number])
        read(number)

    each: dict[str, Callable[[int], object]] = {
        "parse the request (llhttp, seven headers)": lambda n: parser.feed_data(requests[n]),
        "find it: cache, clock, expiry, counters": lambda n: fast_path(keys[n]),
        "compose the answer": compose,
        CAPTURE: capture,
        WHOLE: whole,
        LATER: click,
    }
    found = {}
    for name, step in each.items():
        times = [timed(step, empty) for _ in range(ROUNDS)]
        found[name] = min(times)
    found[LATER] -= found[CAPTURE]
    parts = [us for name, us in found.items() if name != WHOLE]
    found[REST] = found[WHOLE] - sum(parts)
    return {name: found[name] for name in (*list(found)[:4], LATER, REST, WHOLE)}


def filled(redirector: Redirector) -> tuple[list[LinkKey], list[bytes]]:
    """Put LINKS links into the local cache; return their keys, and a request for each."""
    keys = [link_key(HOST, f"c{number:06}") for number in range(LINKS)]
    for number, key in enumerate(keys):
        target = f"https://example.com/articles/{number}?from=bench"
        record = LinkRecord(number + 1, Kind.ACTIVE, number, target)
        redirector.cache.put(key, record, read_at=redirector.clock())
    head = b"".join(name + b": " + value + b"\r\n" for name, value in HEADERS)
    requests = [
        b"GET /" + key.partition("/")[2].encode() + b" HTTP/1.1\r\n" + head + b"\r\n"
        for key in keys
    ]
    return keys, requests


def connection(redirector: Redirector) -> Any:
    """Return the redirector's protocol with a client connected."""
    config = uvicorn.Config(
        application(redirector), log_config=None, access_log=False, lifespan="off"
    )
    config.load()
    state = ServerState()
    state.default_headers = [(b"date", b"Tue, 24 Nov 2026 12:00:00 GMT")]
    made = direct_protocol(redirector)(config, state, {}, asyncio.get_running_loop())
    made.connection_made(Deaf())  # type: ignore[arg-type]
    return made


def timed(step: Callable[[int], object], after: Callable[[], None]) -> float:
    """Return the µs of one call, less those of the loop around it."""
    took = []
    for work in (step, lambda number: number):
        began = time.process_time()
        for number in range(CALLS):
            work(number % LINKS)
        took.append(time.process_time() - began)
        after()
    return (took[0] - took[1]) / CALLS * 1e6


if __name__ == "__main__":
    sys.exit(uvloop.run(main()))
