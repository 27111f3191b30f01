"""The open connections of one listener: admits them up to the limits, and ends those past a deadline.

One timer checks all connections: a part of them at each tick, and each of them about once per second.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable

from prometheus_client import CollectorRegistry

from shortcore.http.connection_limits import Limits, admin_limits, public_limits
from shortcore.http.connection_metrics import ConnectionMetrics, Reason, Refusals
from shortcore.http.deadlines import Connection, Watched
from shortcore.http.incomplete import IncompleteRequests
from shortcore.http.networks import Networks, client_of
from shortcore.settings.connections import ConnectionSettings

SWEEP_S = 1.0
"""Maximum time between two checks of a connection; a deadline is exact to twice that."""

_PARTS = 16
"""Ticks of a sweep: with 10,000 connections, each tick then takes less than a millisecond."""

_SILENT = 1024
"""Maximum number of silent connections in the list of those that are ended to admit others."""


class Connections:
    """Admits connections and ends those that take too long.

    The limit per address does not apply to a peer in `trusted`, which forwards for many clients.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        name: str = "public",
        trusted: Networks | None = None,
        metrics: ConnectionMetrics | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits = limits or Limits()
        self._trusted = trusted
        self._clock = clock
        self._refusals = Refusals(name, clock)
        if metrics is not None:
            self._refusals.export(
                metrics, lambda: self.count, lambda: self.incomplete.bytes, limits.connections
            )
        self.count = 0
        self.incomplete = IncompleteRequests[Connection](limits.incomplete_bytes)
        self._admitted = 0
        self._of_client: dict[str, int] = {}
        self._parts: list[set[Connection]] = [set() for _ in range(_PARTS)]
        self._swept = 0
        self._silent: deque[Connection] = deque(maxlen=_SILENT)
        shortest = min(limits.head_s, limits.body_grace_s, limits.write_s, limits.idle_s)
        self._sweep_s = min(SWEEP_S, shortest / 4)
        self._timer: asyncio.TimerHandle | None = None

    def admit(self, protocol: Watched, transport: asyncio.Transport) -> Connection | None:
        """Admit a new connection; closes it and returns None if it exceeds a limit."""
        peer = protocol.peer
        client = self._client(peer)
        if client is not None and self._of_client.get(client, 0) >= self._limits.per_address:
            self._abort(transport, Reason.ADDRESS_LIMIT, peer)
            return None
        if self.count >= self._limits.connections and not self._make_room():
            self._abort(transport, Reason.PROCESS_LIMIT, peer)
            return None
        self._admitted += 1
        connection = Connection(protocol, transport, client, self._admitted, self._clock())
        self.count += 1
        if client is not None:
            self._of_client[client] = self._of_client.get(client, 0) + 1
        self._parts[connection.number % _PARTS].add(connection)
        if self._timer is None:
            self._tick_later()
        return connection

    def release(self, connection: Connection) -> None:
        """Remove an admitted connection that is closed."""
        self._parts[connection.number % _PARTS].discard(connection)
        self.incomplete.drop(connection)
        self.count -= 1
        client = connection.client
        if client is not None:
            left = self._of_client[client] - 1
            if left:
                self._of_client[client] = left
            else:
                del self._of_client[client]

    def received(self, connection: Connection, size: int, *, begins: bool) -> None:
        """Count `size` bytes of an incomplete request; ends the oldest ones beyond `incomplete_bytes`."""
        self.incomplete.add(connection, size, begins=begins)
        while (slow := self.incomplete.excess()) is not None:
            self._refusals.note(Reason.INCOMPLETE_LIMIT, slow.protocol.peer)
            slow.protocol.end(request_begun=True)

    def _client(self, peer: str) -> str | None:
        if not self._limits.per_address or not peer:
            return None
        if self._trusted is not None and self._trusted.hold(peer):
            return None
        return client_of(peer)

    def _make_room(self) -> bool:
        """End a connection that has been silent for a sweep or longer; returns whether there was one.

        So a flood of connections that send nothing does not exclude clients that send requests.
        """
        while self._silent:
            connection = self._silent.popleft()
            if connection.silent and not connection.transport.is_closing():
                self._abort(connection.transport, Reason.SILENT, connection.protocol.peer)
                return True
        return False

    def _abort(self, transport: asyncio.Transport, reason: Reason, peer: str) -> None:
        self._refusals.note(reason, peer)
        transport.abort()

    def _tick_later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._sweep_s / _PARTS, self._tick)

    def _tick(self) -> None:
        now = self._clock()
        for connection in tuple(self._parts[self._swept]):
            self._check(connection, now)
        self._swept = (self._swept + 1) % _PARTS
        if self.count:
            self._tick_later()
        else:
            self._timer = None
            self._silent.clear()

    def _check(self, connection: Connection, now: float) -> None:
        reason = connection.check(self._limits, now)
        if reason is None:
            if connection.silent_s(now) >= self._sweep_s:
                self._silent.append(connection)
        elif reason is Reason.WRITE_TIMEOUT:
            self._abort(connection.transport, reason, connection.protocol.peer)
        else:
            self._refusals.note(reason, connection.protocol.peer)
            connection.protocol.end(
                request_begun=reason in {Reason.HEAD_TIMEOUT, Reason.BODY_TIMEOUT}
            )


def of_settings(
    settings: ConnectionSettings, registry: CollectorRegistry
) -> tuple[Connections, Connections]:
    """Return the connections of the public port and those of the admin port.

    Raises ConfigurationError for an invalid address of a trusted proxy, or too few file descriptors.
    """
    metrics = ConnectionMetrics(registry)
    trusted = _trusted(settings)
    return (
        Connections(public_limits(settings), trusted=trusted, metrics=metrics),
        Connections(admin_limits(settings), name="admin", trusted=trusted, metrics=metrics),
    )


def of_admin_settings(settings: ConnectionSettings, registry: CollectorRegistry) -> Connections:
    """Return the connections of the admin port, for a process without a public port."""
    metrics = ConnectionMetrics(registry)
    return Connections(
        admin_limits(settings), name="admin", trusted=_trusted(settings), metrics=metrics
    )


def _trusted(settings: ConnectionSettings) -> Networks:
    return Networks(settings.trusted_proxies, "SHORTLINKS_TRUSTED_PROXIES")
