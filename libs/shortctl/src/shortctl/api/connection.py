"""An HTTP client with one persistent connection, bodies in memory, and timeouts.

It uses the standard library because every command imports it at its start: the import of httpx
alone takes longer than a small `links import`.
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
"""Timeout in seconds of each wait for a part of a response."""


class NoResponse(Exception):
    """The server is unavailable, or closed the connection before its response was complete."""


class Response(msgspec.Struct, frozen=True):
    """The response of a server, of any status. Names of headers are case-insensitive."""

    status: int
    reason: str
    headers: HTTPMessage
    content: bytes

    def json(self) -> Any:
        """Decode the content as JSON. Raises msgspec.DecodeError if it is not JSON."""
        return msgspec.json.decode(self.content)


class Connection:
    """A persistent connection to a server.

    The first request opens it; a request that finds it closed opens a new one.
    """

    def __init__(self, base: str, headers: Mapping[str, str]) -> None:
        """Accept a URL such as `https://host:8000/path` as `base`; raises ValueError for others."""
        parts = urlsplit(base)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(
                f"{base!r} is not an HTTP URL: write it in full, such as https://host."
            )
        self._path = parts.path.rstrip("/")
        self._headers = headers
        if parts.scheme == "http":
            self._http = HTTPConnection(parts.hostname, parts.port)
        else:
            self._http = HTTPSConnection(parts.hostname, parts.port, context=_trusted())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(
        self,
        method: str,
        path: str,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Send a request and return its response. Raises NoResponse."""
        try:
            self._connect()
            # A server may refuse a body, and close the connection, before it has read all of it.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self._http.request(
                    method, self._path + path, content, {**self._headers, **(headers or {})}
                )
            response = self._http.getresponse()
            return Response(response.status, response.reason, response.msg, response.read())
        # ValueError: a key that is not valid in a header, or a host that is not a valid name.
        except (OSError, HTTPException, ValueError) as error:
            self.close()
            raise NoResponse(f"{type(error).__name__}: {error}") from error
        except BaseException:
            self.close()  # the rest of this response must not be read as the next one
            raise

    def close(self) -> None:
        """Close the connection. A later request would open a new one."""
        self._http.close()

    def _connect(self) -> None:
        # Before a request is sent, the socket is readable only if the server has closed it.
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
    return ssl.create_default_context()  # takes 30 ms: it reads the certificates of the machine
