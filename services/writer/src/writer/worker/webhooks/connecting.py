"""Connects to the host of a webhook: resolves it, checks the addresses, connects to a checked one.

The host is resolved once per connection, and the connection goes to an address that was checked. A
server of names that answers differently the second time (DNS rebinding) gains nothing.
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import httpcore

from writer.worker.webhooks.addresses import AddressPolicy

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Returns the addresses of a host, best first. Raises OSError if it has none."""

_MAX_TRIED = 3
"""Addresses of a host that one attempt tries."""

_Options = Iterable[
    tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]
]


class AddressRefused(httpcore.ConnectError):
    """Every address of the host is one that webhooks must not be sent to."""


class Resolver:
    """Resolves hosts in threads of its own: one lookup per host at a time.

    A lookup cannot be cancelled. So a name server that does not answer holds at most one thread per
    host, and with as many threads as there are webhooks, no lookup waits for another host's.
    """

    def __init__(self, max_hosts: int) -> None:
        self._threads = ThreadPoolExecutor(max_hosts, thread_name_prefix="webhook-hosts")
        self._running: dict[tuple[str, int], asyncio.Future[list[str]]] = {}

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        """Return the addresses of `host`, best first. Raises OSError if it has none."""
        key = (host, port)
        running = self._running.get(key)
        if running is None:
            loop = asyncio.get_running_loop()
            running = loop.run_in_executor(self._threads, _lookup, host, port)
            self._running[key] = running
            running.add_done_callback(lambda _: self._running.pop(key))
        return await asyncio.shield(running)


def _lookup(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class CheckedBackend(httpcore.AsyncNetworkBackend):
    """A network backend that connects to checked addresses only.

    TLS still verifies the name of the host, because the connection pool keeps it.
    """

    def __init__(self, policy: AddressPolicy, resolve: Resolve) -> None:
        self._policy = policy
        self._resolve = resolve
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  # the interface of httpcore
        local_address: str | None = None,
        socket_options: _Options | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first permitted address of `host` that accepts a connection.

        Raises AddressRefused, and httpcore.ConnectError or ConnectTimeout.
        """
        try:
            found = await self._resolve(host.strip("[]"), port)
        except OSError as error:
            raise httpcore.ConnectError(f"The host cannot be resolved: {error}") from error
        permitted = [address for address in found if self._policy.permits(address)]
        if not permitted:
            raise AddressRefused(f"{host} has no public address, but {', '.join(found[:3])}.")
        failure: Exception = httpcore.ConnectError("no address")
        for address in permitted[:_MAX_TRIED]:
            try:
                return _Stream(
                    await self._inner.connect_tcp(
                        address, port, timeout, local_address, socket_options
                    )
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109  # the interface of httpcore
        socket_options: _Options | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Refuse: a webhook has a host."""
        del timeout, socket_options
        raise AddressRefused(f"{path} is not a host.")

    async def sleep(self, seconds: float) -> None:
        """Sleep for `seconds`."""
        await asyncio.sleep(seconds)


class _Stream(httpcore.AsyncNetworkStream):
    """A connection that is also closed if its TLS handshake is cancelled."""

    def __init__(self, inner: httpcore.AsyncNetworkStream) -> None:
        self._inner = inner

    async def read(
        self,
        max_bytes: int,
        timeout: float | None = None,  # noqa: ASYNC109  # the interface of httpcore
    ) -> bytes:
        return await self._inner.read(max_bytes, timeout)

    async def write(
        self,
        buffer: bytes,
        timeout: float | None = None,  # noqa: ASYNC109  # the interface of httpcore
    ) -> None:
        await self._inner.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  # the interface of httpcore
    ) -> httpcore.AsyncNetworkStream:
        try:
            return await self._inner.start_tls(ssl_context, server_hostname, timeout)
        except asyncio.CancelledError:
            # httpcore closes the connection after an error, but not after a cancellation. Each
            # receiver that never ends its handshake would leave an open socket.
            await self._inner.aclose()
            raise

    def get_extra_info(self, info: str) -> object:
        return self._inner.get_extra_info(info)
