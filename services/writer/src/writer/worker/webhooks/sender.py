"""Sends one signed message to one webhook, and says what came of it."""

import asyncio
import contextlib
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpcore

from shortcore.clock import Now
from writer.worker.webhooks.addresses import AddressPolicy
from writer.worker.webhooks.connecting import CheckedBackend, Resolve

MAX_RESPONSE_BYTES = 4096
"""Bytes of a response body that are read; they are not stored."""

_BODY_TIMEOUT_S = 1.0
_ERRORS = (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError)

_IDLE_CONNECTIONS = 50
_IDLE_S = 30.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of one attempt: the status of the response, or the error without one."""

    status: int | None = None
    error: str | None = None
    retry_after_s: float | None = None

    @property
    def delivered(self) -> bool:
        """Whether the receiver has accepted the message (2xx)."""
        return self.status is not None and 200 <= self.status < 300  # noqa: PLR2004  # RFC 9110, 15.3

    @property
    def gone(self) -> bool:
        """Whether the receiver wants no more messages (410)."""
        return self.status == 410  # noqa: PLR2004  # Standard Webhooks, «Delivery»


class Sender:
    """Sends messages over HTTP/1.1. It follows no redirects and uses no proxy."""

    def __init__(
        self,
        policy: AddressPolicy,
        resolve: Resolve,
        now: Now,
        *,
        timeout_s: float,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._now = now
        self._timeout_s = timeout_s
        # Who may send at all is bounded by the caller, so that no webhook waits for another's.
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls or ssl.create_default_context(),
            max_connections=None,
            max_keepalive_connections=_IDLE_CONNECTIONS,
            keepalive_expiry=_IDLE_S,
            network_backend=CheckedBackend(policy, resolve),
        )

    async def send(self, url: str, headers: dict[str, str], body: bytes) -> Outcome:
        """POST `body` to `url`; returns within the timeout, whatever the receiver does."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._send(url, headers, body)
        except TimeoutError:
            return Outcome(error=f"The receiver did not answer within {self._timeout_s:g} s.")
        except httpcore.ProtocolError as error:
            return Outcome(error=f"The response is not valid HTTP: {_sentence(error)}")
        except _ERRORS as error:
            return Outcome(error=_sentence(error))

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.aclose()

    async def _send(self, url: str, headers: dict[str, str], body: bytes) -> Outcome:
        async with self._pool.stream(
            "POST", url, headers=[*headers.items()], content=body
        ) as response:
            # A short body is read to its end, so that the connection can be used again. A longer or
            # slower one is not needed: the status has arrived.
            with contextlib.suppress(TimeoutError, *_ERRORS):
                async with asyncio.timeout(_BODY_TIMEOUT_S):
                    await _read_some(response)
            return Outcome(response.status, _refusal(response.status), self._pause(response))

    def _pause(self, response: httpcore.Response) -> float | None:
        for name, value in response.headers:
            if name.lower() == b"retry-after":
                return retry_after_s(value.decode("latin-1"), self._now())
        return None


def retry_after_s(value: str, now: datetime) -> float | None:
    """Return the seconds that the header `Retry-After` asks for (RFC 9110, 10.2.3), if it is valid."""
    text = value.strip()
    if text.isascii() and text.isdecimal() and len(text) < 10:  # noqa: PLR2004  # 30 years
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds())


async def _read_some(response: httpcore.Response) -> None:
    received = 0
    async for part in response.aiter_stream():
        received += len(part)
        if received > MAX_RESPONSE_BYTES:
            return


def _refusal(status: int) -> str | None:
    if 300 <= status < 400:  # noqa: PLR2004  # RFC 9110, 15.4
        return "The receiver answered with a redirect, which is not followed."
    return None if status < 300 else f"The receiver answered with the status {status}."  # noqa: PLR2004


def _sentence(error: Exception) -> str:
    return (f"{error}" or type(error).__name__).splitlines()[0][:300]
