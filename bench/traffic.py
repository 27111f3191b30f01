"""Request files for the load generator: which paths are requested, in which order.

A file is a sequence of records: the length of the request in decimal, a line feed, and the request's
bytes. Paths are drawn before the measurement, so that drawing them costs the load generator nothing.
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

HOST = "localhost"
LETTERS = "346789ABCDEFGHJKLMNPQRSTUVWXYabcdefghjkmnpqrstuvwxyz"
"""The alphabet of generated codes (`shortcore.links.codes`)."""


@dataclass(frozen=True)
class Stream:
    """A file of `count` requests, and some of their paths."""

    file: Path
    count: int
    sample: tuple[str, ...] = ()


def gets(file: Path, paths: Sequence[str]) -> Stream:
    """Write a GET request for each path."""
    _write(file, (f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode() for path in paths))
    return Stream(file, len(paths), tuple(paths[:20]))


def posts(file: Path, path: str, api_key: str, bodies: Sequence[bytes]) -> Stream:
    """Write a POST request for each JSON body."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {api_key}\r\n"
        "Content-Type: application/json\r\nContent-Length: "
    ).encode()
    _write(file, (head + str(len(body)).encode() + b"\r\n\r\n" + body for body in bodies))
    return Stream(file, len(bodies))


def weighted(
    paths: Sequence[str], weights: Sequence[float] | None, count: int, seed: int
) -> list[str]:
    """Draw `count` of `paths` by their weights; all weigh the same if `weights` is None."""
    return random.Random(seed).choices(paths, weights, k=count)


def zipf(count: int, exponent: float = 1.0) -> list[float]:
    """Return the weights of `count` paths by Zipf's law, the most popular first."""
    return [rank**-exponent for rank in range(1, count + 1)]


def unknown_codes(known: Sequence[str], count: int, seed: int) -> list[str]:
    """Return paths of random codes that have the form of `known` codes."""
    choose = random.Random(seed)
    exclude = frozenset(known)
    paths: list[str] = []
    while len(paths) < count:
        code = "".join(choose.choices(LETTERS, k=len(known[0])))
        if code not in exclude:
            paths.append(f"/{code}")
    return paths


def invalid(count: int, seed: int) -> list[str]:
    """Return paths that cannot be links, as scanners send them."""
    choose = random.Random(seed)
    endings = (".php", "~", "/.env", "$")
    return [
        "/" + "".join(choose.choices(LETTERS, k=7)) + choose.choice(endings) for _ in range(count)
    ]


def creates(count: int) -> list[bytes]:
    """Return request bodies that create one link each."""
    return [msgspec.json.encode({"target": target}) for target in targets("single", count)]


def batches(count: int, size: int) -> list[bytes]:
    """Return request bodies that create `size` links each."""
    return [
        msgspec.json.encode({"items": [{"target": each} for each in targets(f"batch{at}", size)]})
        for at in range(count)
    ]


def targets(name: str, count: int) -> list[str]:
    """Return `count` URLs of about 45 characters."""
    return [f"https://example.com/bench/{name}/{number:08d}" for number in range(count)]


def _write(file: Path, requests: Iterable[bytes]) -> None:
    with file.open("wb") as out:
        for request in requests:
            out.write(b"%d\n" % len(request))
            out.write(request)
