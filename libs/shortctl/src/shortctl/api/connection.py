"""HTTP as a command needs it: one connection that is kept, bodies in memory, deadlines.

It is the standard library's: a command pays for what it imports at every start, and httpx takes
longer to import than a small import of links takes in all.
"""

import contextlib
import functools
import select
import ssl
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPMessage, HTTPSConnection
from typing import Any, Self
from urllib.parse import urlsplit

import msgspec

CONNECT_S = 5.0
TIMEOUT_S = 30.0
"""How long each part of an answer may let wait."""


class NoAnswer(Exception):  # what happened, as the sentence that tells it begins
    """The server could not be reached, or went away before its answer was whole."""


class Answer(msgspec.Struct, frozen=True):
    """What a server answered, with whatever status; headers are found in any case."""

    status: int
    reason: str
    headers: HTTPMessage
    content: bytes

    def json(self) -> Any:
        """Return the content as what it is in JSON. Raises msgspec.DecodeError if it is none."""
        return msgspec.json.decode(self.content)


class Connection:
    """A connection to a server, made at the first request and made anew where it was lost."""

    def __init__(self, base: str, headers: Mapping[str, str]) -> None:
        """Take an address such as `https://host:8000/below`; raises ValueError for no such one."""
        parts = urlsplit(base)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"{base!r} is no address: write it in full, as https://host.")
        self._below = parts.path.rstrip("/")
        self._headers = headers
        if parts.scheme == "http":
            self._http = HTTPConnection(parts.hostname, parts.port)
        else:
            self._http = HTTPSConnection(parts.hostname, parts.port, context=_trusted())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(
        self,
        method: str,
        path: str,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request and return its answer. Raises NoAnswer."""
        try:
            self._connect()
            # A server that refuses a body may answer, and close, before it has read all of it.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self._http.request(
                    method, self._below + path, content, {**self._headers, **(headers or {})}
                )
            response = self._http.getresponse()
            return Answer(response.status, response.reason, response.msg, response.read())
        # ValueError: a key that no header can hold, a host that is no name.
        except (OSError, HTTPException, ValueError) as error:
            self.close()
            raise NoAnswer(f"{type(error).__name__}: {error}") from error
        except BaseException:
            self.close()  # half an answer must not be read as the next one's
            raise

    def close(self) -> None:
        """Close it; the next request would make it anew."""
        self._http.close()

    def _connect(self) -> None:
        # What can be read before anything was asked is the server's end of an idle connection.
        if self._http.sock is not None and select.select([self._http.sock], (), (), 0)[0]:
            self.close()
        if self._http.sock is None:
            self._open()

    def _open(self) -> None:
        self._http.timeout = CONNECT_S
        self._http.connect()
        self._http.sock.settimeout(TIMEOUT_S)


@functools.cache
def _trusted() -> ssl.SSLContext:
    return ssl.create_default_context()  # reads the machine's certificates: 30 ms
