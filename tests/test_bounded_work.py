"""No request holds an event loop for longer than 50 ms, whatever is sent.

The writer says how much CPU time each piece of work in its loop took (`harness.held`), and a thread
asks for `/livez` all the time, as a kubelet would.
"""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from harness.held import HELD
from harness.stack import Part, Stack
from harness.stopwatch import Stopwatch
from harness.waiting import until

HELD_MAX_S = 0.05
TRIES = 3
"""A piece of work is judged by the best of so many: a busy machine shares caches and cores."""

LINKS, BATCH, IMPORT = "/api/v1/links", "/api/v1/links:batch", "/api/v1/links:import"
MAX = 4 * 1024 * 1024
ONE = 128 * 1024
TARGET = "https://example.com/"
JSON, CSV, JSONL = "application/json", "text/csv", "application/jsonl"


def fitting(piece: bytes, size: int, before: bytes = b"", after: bytes = b"") -> bytes:
    """Return a body of at most `size` bytes: as many of `piece` as fit."""
    return before + piece * ((size - len(before) - len(after)) // len(piece)) + after


def members(
    size: int, before: str = '{"target": "https://example.com/"', after: str = "}"
) -> bytes:
    """Return an object with as many unknown members as fit."""
    made, length = [before], len(before) + len(after)
    number = 0
    while length < size - 20:
        made.append(f',"k{number}":1')
        length += len(made[-1])
        number += 1
    return "".join([*made, after]).encode()


def link(**fields: object) -> bytes:
    return json.dumps({"target": TARGET, **fields}).encode()


def batch_of(item: object, count: int) -> bytes:
    return json.dumps({"items": [item] * count}).encode()


EVERYTHING = {
    "target": TARGET + "a" * 1000, "expires_at": "2090-01-01T00:00:00Z",
    "expired_target": TARGET + "b" * 500, "title": "t" * 300, "note": "n" * 1000, "max_visits": 5,
    "tags": [f"tag-{n}" for n in range(32)], "forward_query": True, "enabled": True,
}  # fmt: skip

# What is sent, and the status of the answer.
REFUSED = {
    "unknown members": (LINKS, JSON, members(ONE), 422),
    "members that the largest body holds": (LINKS, JSON, members(MAX), 413),
    "one member many times": (LINKS, JSON, fitting(b',"target":1', ONE, b'{"target":1', b"}"), 422),
    "deep nesting": (LINKS, JSON, b"[" * ONE, 422),
    "deep objects": (LINKS, JSON, fitting(b'{"a":', ONE), 422),
    "a huge number": (LINKS, JSON, fitting(b"9", ONE, b'{"target":', b"}"), 400),
    "a huge exponent": (LINKS, JSON, fitting(b"9", ONE, b'{"max_visits":1e', b"}"), 422),
    "a huge fraction": (LINKS, JSON, fitting(b"9", ONE, b'{"max_visits":0.', b"}"), 422),
    "escapes": (LINKS, JSON, fitting(b'\\"', ONE, b'{"target":"', b'"}'), 422),
    "a huge name": (LINKS, JSON, fitting(b"\\u0041", ONE, b'{"', b'":1}'), 422),
    "lone surrogates": (LINKS, JSON, fitting(b"\\ud800", ONE, b'{"target":"', b'"}'), 422),
    "tags": (LINKS, JSON, link(tags=["x"] * 200), 422),
    "bad tags": (LINKS, JSON, link(tags=[{}] * 120), 422),
    "UTF-16": (LINKS, JSON, link(title="x" * 30_000).decode().encode("utf-16"), 400),
    "a byte order mark": (LINKS, JSON, b"\xef\xbb\xbf" + members(ONE), 422),
    "invalid UTF-8": (LINKS, JSON, fitting(b"\xff", ONE, b'{"target":"', b'"}'), 400),
    "NUL": (LINKS, JSON, b"\x00" * ONE, 400),
    "a host that punycode is slow for": (
        LINKS, JSON, json.dumps({"target": f"https://{'ü' * 8000}/"}).encode(), 422),
    "members beside the items": (BATCH, JSON, members(600_000, '{"items":[{}]'), 422),
    "members of one item": (BATCH, JSON, members(600_000, '{"items":[{"target":""', "}]}"), 422),
    "members of one item, as many as fit": (
        BATCH, JSON, members(MAX, '{"items":[{"target":""', "}]}"), 422),
    "members of every item": (
        BATCH, JSON, batch_of({f"k{n}": {} for n in range(31)}, 1000), 200),
    "items": (BATCH, JSON, fitting(b"{},", MAX, b'{"items":[', b"{}]}"), 422),
    "numbers": (BATCH, JSON, fitting(b"1,", MAX, b'{"items":[', b"1]}"), 422),
    "empty items": (BATCH, JSON, fitting(b"[],", MAX, b'{"items":[', b"[]]}"), 422),
    "texts": (BATCH, JSON, fitting(b'"",', MAX, b'{"items":[', b'""]}'), 422),
    "deep items": (BATCH, JSON, fitting(b"[", 60_000, b'{"items":'), 422),
    "commas in a text": (BATCH, JSON, fitting(b",", MAX, b'{"items":["', b'"]}'), 200),
    "escaped quotes in a text": (BATCH, JSON, fitting(b'\\"', MAX, b'{"items":["', b'"]}'), 200),
    "blanks": (BATCH, JSON, fitting(b" ", MAX, b'{"items":[', b"1]}"), 200),
    "blank lines of CSV": (IMPORT, CSV, fitting(b"\n", MAX, b"target\n"), 422),
    "blank lines of CSV, after rows": (IMPORT, CSV, fitting(b"\r\n", MAX, b"target\nx\n"), 422),
    "one CSV cell": (IMPORT, CSV, fitting(b"a", MAX, b'target\n"', b'"\n'), 400),
    "one CSV cell of lines": (IMPORT, CSV, fitting(b"\n", MAX, b'target\n"', b'"\n'), 400),
    "one CSV cell of quotes": (IMPORT, CSV, fitting(b'""', MAX, b'target\n"', b'"\n'), 400),
    "CSV cells": (IMPORT, CSV, fitting(b",", MAX, b"target\n", b"\n"), 400),
    "CSV cells in rows": (IMPORT, CSV, fitting(b"," * 1000 + b"\n", MAX, b"target\n"), 200),
    "CSV columns": (IMPORT, CSV, fitting(b"a,", 200_000, b"target,"), 400),
    "CSV tags": (IMPORT, CSV, fitting(b"a,", 200_000, b'target,tags\nx,"', b'"\n'), 200),
    "short CSV rows": (IMPORT, CSV, fitting(b"x\n", MAX, b"target\n"), 422),
    "bad CSV rows": (IMPORT, CSV, fitting(b"x\n", 20_000, b"target\n"), 200),
    "blank lines of JSONL": (IMPORT, JSONL, fitting(b"\n", MAX), 422),
    "lines of blanks": (IMPORT, JSONL, fitting(b" \n", MAX), 422),
    "a line of blanks": (IMPORT, JSONL, fitting(b" ", MAX), 400),
    "JSONL members": (IMPORT, JSONL, members(200_000), 200),
    "JSONL lines of members": (
        IMPORT, JSONL, fitting(members(460) + b"\n", MAX), 200),
    "JSONL lines that are too deep": (IMPORT, JSONL, fitting(b"[" * 200 + b"\n", MAX), 422),
    "JSONL hosts that punycode is slow for": (
        IMPORT, JSONL, fitting(
            json.dumps({"target": f"https://{'ü' * 8000}/"}, ensure_ascii=False).encode() + b"\n",
            MAX), 200),
    "a huge JSONL line": (IMPORT, JSONL, fitting(b"a", MAX, b'{"target":"', b'"}'), 400),
}  # fmt: skip
TAKEN = {
    "a full batch": (BATCH, JSON, batch_of(EVERYTHING, 1000), 200),
    "a full import": (IMPORT, CSV, b"target\n" + b"https://example.com/x\n" * 10_000, 200),
    "a full import with codes": (
        IMPORT, CSV,
        b"target,code\n" + b"".join(b"https://example.com/x,c%d\n" % n for n in range(10_000)), 200),
    "an import with every field": (
        IMPORT, JSONL, fitting(json.dumps(EVERYTHING).encode() + b"\n", MAX), 200),
}  # fmt: skip
READ = (
    f"{LINKS}?limit=200",
    f"{LINKS}?{'&'.join(f'k{n}=' for n in range(5000))}",
    f"{LINKS}?{'tag=a&' * 90}",
    f"{LINKS}?cursor={'A' * 60_000}",
    f"{LINKS}/{'a' * 60_000}/x",
    "/api/v1/tags",
    "/api/openapi.json",
    "/api/v1/keys",
    "/api/v1/domains",
)


class Prober(threading.Thread):
    """Asks for `/livez` all the time; `slowest` is the longest that an answer took."""

    def __init__(self, part: Part) -> None:
        super().__init__(daemon=True)
        self._part = part
        self._ended = threading.Event()
        self.slowest = 0.0

    def run(self) -> None:
        while not self._ended.wait(0.02):
            watch = Stopwatch()
            status, _ = self._part.ask("/livez")
            self.slowest = max(self.slowest, watch.seconds if status == 200 else 99)

    def end(self) -> None:
        self._ended.set()
        self.join()


@pytest.fixture
def stack(server_folder: Path, database_url: str, redis_url: str) -> Iterator[Stack]:
    slow = {"POSTGRES_TIMEOUT_MS": "20000", "POSTGRES_WRITE_TIMEOUT_MS": "30000"}
    with Stack(server_folder, database_url, redis_url, slow) as stack:
        yield stack


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_no_request_holds_the_event_loop(stack: Stack) -> None:
    writer = stack.measured_writer()
    prober = Prober(writer)
    prober.start()
    held: dict[str, tuple[float, int, int]] = {}
    with httpx.Client(
        base_url=writer.url,
        headers={"Authorization": f"Bearer {stack.api_key}"},
        timeout=60,
        trust_env=False,
    ) as api:

        def measure(name: str, send: httpx.Request, expected: int) -> None:
            for _ in range(TRIES):
                writer.metric(HELD)
                answer = api.send(send)
                assert answer.status_code < 500, (name, answer.text)
                took = writer.metric(HELD)
                best = held.get(name, (99.0, 0, 0))[0]
                held[name] = (min(best, took), answer.status_code, expected)
                if took < HELD_MAX_S:
                    break

        for name, (path, kind, body, expected) in (REFUSED | TAKEN).items():
            headers = {"content-type": kind}
            measure(name, api.build_request("POST", path, content=body, headers=headers), expected)
        for path in READ:
            measure(path[:60], api.build_request("GET", path), 0)
    prober.end()
    assert {name: took for name, (took, _, _) in held.items() if took > HELD_MAX_S} == {}
    assert {name: rest for name, (_, *rest) in held.items() if rest[1] and rest[0] != rest[1]} == {}
    assert prober.slowest < 1.5, "far below what these bodies took, on a machine that is busy"


def test_every_process_measures_the_lag_of_its_event_loop(stack: Stack) -> None:
    parts = [stack.writer(), stack.relay(), stack.redirector()]
    for part in parts:
        until(
            lambda part=part: part.metric("shortlinks_event_loop_lag_seconds_count") >= 2,
            f"the {part.child.name} has measured twice",
        )
