"""Counts the connections that a limit refused or ended; logs one line per minute and reason."""

import enum
import time
from collections.abc import Callable

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

LOG_INTERVAL_S = 60.0
"""Minimum time between two log lines for the same reason, as anybody can cause them."""

log = structlog.stdlib.get_logger(__name__)


class Reason(enum.Enum):
    """Why a connection was refused or ended."""

    PROCESS_LIMIT = "process_limit"
    ADDRESS_LIMIT = "address_limit"
    SILENT = "silent"
    HEAD_TIMEOUT = "head_timeout"
    BODY_TIMEOUT = "body_timeout"
    WRITE_TIMEOUT = "write_timeout"
    IDLE = "idle"
    INCOMPLETE_LIMIT = "incomplete_limit"


_UNLOGGED = {Reason.IDLE}  # the normal end of a connection that is kept alive


class ConnectionMetrics:
    """The metrics of the connections of all listeners of one process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._ended = Counter(
            "shortlinks_connections_ended",
            "Connections that were refused or ended by the server for a limit or a timeout",
            ["listener", "reason"],
            registry=registry,
        )
        self._open = Gauge(
            "shortlinks_connections_open", "Open connections", ["listener"], registry=registry
        )
        self._incomplete = Gauge(
            "shortlinks_incomplete_requests_bytes",
            "Bytes of requests that have begun to arrive and are not complete",
            ["listener"],
            registry=registry,
        )
        self._max = Gauge(
            "shortlinks_connections_max",
            "Maximum number of open connections",
            ["listener"],
            registry=registry,
        )

    def listener(
        self,
        name: str,
        open_now: Callable[[], int],
        incomplete_bytes: Callable[[], int],
        maximum: int,
    ) -> dict[Reason, Callable[[], None]]:
        """Export the metrics of one listener; returns the counter of each reason."""
        self._open.labels(name).set_function(open_now)
        self._incomplete.labels(name).set_function(incomplete_bytes)
        self._max.labels(name).set(maximum)
        return {reason: self._ended.labels(name, reason.value).inc for reason in Reason}


class Refusals:
    """Counts and logs the connections that one listener refused or ended."""

    def __init__(self, listener: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._listener = listener
        self._clock = clock
        self._count: dict[Reason, Callable[[], None]] = {}
        self._unlogged = dict.fromkeys(Reason, 0)
        self._next_line = dict.fromkeys(Reason, 0.0)

    def export(
        self,
        metrics: ConnectionMetrics,
        open_now: Callable[[], int],
        incomplete_bytes: Callable[[], int],
        maximum: int,
    ) -> None:
        """Count in `metrics` from now on."""
        self._count = metrics.listener(self._listener, open_now, incomplete_bytes, maximum)

    def note(self, reason: Reason, peer: str) -> None:
        """Count one connection, and log it unless this reason was logged within LOG_INTERVAL_S."""
        if self._count:
            self._count[reason]()
        if reason in _UNLOGGED:
            return
        self._unlogged[reason] += 1
        now = self._clock()
        if now < self._next_line[reason]:
            return
        self._next_line[reason] = now + LOG_INTERVAL_S
        log.warning(
            "connection ended for a limit",
            listener=self._listener,
            reason=reason.value,
            last_peer=peer,
            since_last_line=self._unlogged[reason],
        )
        self._unlogged[reason] = 0
