"""Which TCP ports on the loopback interface are free."""

import itertools
import os
import socket
from collections.abc import Iterable
from pathlib import Path

LOOPBACK = "127.0.0.1"


_FIRST = 10_000
_SLICES = 64
_numbers = itertools.count()


def free_port() -> int:
    """Return a port that is free now, though nobody holds it for us.

    It is below the ports that the kernel gives to outgoing connections, which could take it before
    it is used. Each process takes its ports in turn from a slice of its own, so that two that run
    side by side hardly ever choose the same.
    """
    size = (_first_outgoing() - _FIRST) // _SLICES
    start = _FIRST + os.getpid() % _SLICES * size
    for _ in range(size):
        port = start + next(_numbers) % size
        if _is_free(port, reuse=False):
            return port
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _first_outgoing() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text("ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return 32_768  # Linux's own


def taken(ports: Iterable[int]) -> list[int]:
    """Return those of `ports` that somebody listens on, or that we may not have."""
    return [port for port in ports if not _is_free(port)]


def _is_free(port: int, *, reuse: bool = True) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        if reuse:  # as servers do: connections of a former run in TIME_WAIT are no obstacle
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except (OSError, OverflowError):
            return False
    return True
