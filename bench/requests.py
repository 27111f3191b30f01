"""Files of requests, made before the clock runs: all load generators send the same bytes.

A record is the request's length in decimal, a line feed, and the request as it goes on the wire.
"""

import random
from bisect import bisect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import msgspec

HOST = "localhost"
LETTERS = "346789ABCDEFGHJKLMNPQRSTUVWXYabcdefghjkmnpqrstuvwxyz"
"""Of which generated codes are made (`shortcore.links.codes`)."""

SCANNED = (
    "/.env", "/wp-login.php", "/.git/config", "/admin.php", "/phpmyadmin/index.php",
    "/cgi-bin/luci", "/xmlrpc.php", "/vendor/phpunit/phpunit/src/Util/PHP/eval-stdin.php",
)  # fmt: skip


@dataclass(frozen=True)
class Stream:
    """A file of `count` requests; `sample` are some of their paths, for a check by hand."""

    path: Path
    count: int
    sample: tuple[str, ...]


def gets(path: Path, paths: Sequence[str]) -> Stream:
    """Write a GET for each path."""
    _write(path, (f"GET {each} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode() for each in paths))
    return Stream(path, len(paths), tuple(paths[:20]))


def posts(path: Path, url_path: str, key: str, bodies: Sequence[bytes]) -> Stream:
    """Write a POST of JSON for each body."""
    head = (
        f"POST {url_path} HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {key}\r\n"
        "Content-Type: application/json\r\nContent-Length: "
    ).encode()
    _write(path, (head + str(len(body)).encode() + b"\r\n\r\n" + body for body in bodies))
    return Stream(path, len(bodies), ())


def unknown_codes(known: Sequence[str], count: int, seed: int) -> list[str]:
    """Return paths that look like the `known` codes, as somebody who guesses would send them."""
    choose = random.Random(seed)
    right = frozenset(known)
    paths: list[str] = []
    while len(paths) < count:
        code = "".join(choose.choices(LETTERS, k=len(known[0])))
        if code not in right:  # of some million guesses one is
            paths.append(f"/{code}")
    return paths


def disguised(paths: Sequence[str]) -> list[str]:
    """Return `paths` of single codes in every form in which a code may be sent."""
    forms: list[Callable[[str], str]] = [
        lambda code: f"/{code}",
        lambda code: f"/{code[:3]}-{code[3:]}",
        lambda code: f"/{code}+",
        lambda code: f"/{code}?x=1",
        lambda code: f"/%{ord(code[0]):02X}{code[1:]}",
        lambda code: f"/{code}/more",
        lambda code: f"/%{ord(code[0]):02X}{code[1:]}%2B?x=1",
    ]
    return [forms[at % len(forms)](path[1:]) for at, path in enumerate(paths)]


def invalid(count: int, seed: int) -> list[str]:
    """Return paths that name no link: scanners' favourites, and codes with letters of none."""
    choose = random.Random(seed)
    return [
        choose.choice(SCANNED) + f"?{number}"
        if number % 2
        else "/" + "".join(choose.choices(LETTERS, k=7)) + choose.choice(".~!$") + "php"
        for number in range(count)
    ]


def zipf(codes: Sequence[str], count: int, seed: int, exponent: float = 1.0) -> list[str]:
    """Return `count` draws from `codes`, the first being the most popular (Zipf's law)."""
    choose = random.Random(seed)
    weights = list(accumulate(rank**-exponent for rank in range(1, len(codes) + 1)))
    total = weights[-1]
    return ["/" + codes[bisect(weights, choose.random() * total)] for _ in range(count)]


def creates(count: int, seed: int) -> list[bytes]:
    """Return bodies that create one link each."""
    return [msgspec.json.encode({"target": target}) for target in _targets(count, seed)]


def batches(count: int, size: int, seed: int) -> list[bytes]:
    """Return bodies that create `size` links each."""
    targets = _targets(count * size, seed)
    return [
        msgspec.json.encode({"items": [{"target": each} for each in targets[at : at + size]]})
        for at in range(0, len(targets), size)
    ]


def csv(path: Path, count: int, seed: int) -> None:
    """Write a file for `shortctl links import`."""
    path.write_text("target\n" + "".join(f"{target}\n" for target in _targets(count, seed)))


def _targets(count: int, seed: int) -> list[str]:
    return [f"https://example.com/bench/{seed}/{number:08d}" for number in range(count)]


def _write(path: Path, requests: Iterable[bytes]) -> None:
    with path.open("wb") as file:
        for request in requests:
            file.write(b"%d\n" % len(request))
            file.write(request)
