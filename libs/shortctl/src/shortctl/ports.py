"""Which TCP ports on the loopback interface are free."""

import socket
from collections.abc import Iterable

LOOPBACK = "127.0.0.1"


def free_port() -> int:
    """Return a port that the kernel picked; free now, though nobody holds it for us."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def taken(ports: Iterable[int]) -> list[int]:
    """Return those of `ports` that somebody listens on, or that we may not have."""
    return [port for port in ports if not _is_free(port)]


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: connections of a former run in TIME_WAIT are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except (OSError, OverflowError):
            return False
    return True
