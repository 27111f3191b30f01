"""Finds free TCP ports on the loopback interface."""

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
    """Return a port that is free now. The port is not reserved.

    The port is below those that the kernel assigns to outgoing connections: one of these could
    take the port before the caller listens on it. Each process takes its ports in order from a
    slice of the range, so that two processes rarely choose the same port.
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
        return 32_768  # the default of Linux


def ports_in_use(ports: Iterable[int]) -> list[int]:
    """Return those of `ports` that are in use or not permitted."""
    return [port for port in ports if not _is_free(port)]


def _is_free(port: int, *, reuse: bool = True) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        if reuse:  # as servers do, so that connections in TIME_WAIT do not matter
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except (OSError, OverflowError):
            return False
    return True
