"""The limits of connections, from the settings and the number of files that the process may open."""

import resource
from dataclasses import dataclass

import structlog

from shortcore.errors import ConfigurationError
from shortcore.settings.connections import ConnectionSettings

log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one listener. A limit per address of 0 means no limit."""

    connections: int = 10_000
    per_address: int = 0
    head_s: float = 15.0
    body_grace_s: float = 10.0
    write_s: float = 30.0
    bytes_per_s: int = 512
    idle_s: float = 75.0
    incomplete_bytes: int = 64 * 2**20


def public_limits(settings: ConnectionSettings) -> Limits:
    """Return the limits of the public port, after raising the process's limit of open files.

    The public port gets the file descriptors outside of the reserve. So a flood of connections there
    never takes those of the admin port, PostgreSQL, Redis and the logs. Raises ConfigurationError if
    the reserve is as large as the limit.
    """
    reserve = settings.file_descriptors_reserved + settings.admin_connections_max
    files = _raised(settings.connections_max + reserve)
    connections = min(settings.connections_max, files - reserve)
    if connections < 1:
        raise ConfigurationError(
            f"The process may open {files} files (ulimit -n); SHORTLINKS_FILE_DESCRIPTORS_RESERVED"
            f" and SHORTLINKS_ADMIN_CONNECTIONS_MAX alone need {reserve}"
        )
    if connections < settings.connections_max:
        log.warning(
            "connections_max lowered to the limit of open files",
            open_files=files,
            connections_max=settings.connections_max,
            effective=connections,
        )
    return _limits(settings, connections, settings.connections_per_address_max)


def admin_limits(settings: ConnectionSettings) -> Limits:
    """Return the limits of the admin port."""
    return _limits(
        settings, settings.admin_connections_max, settings.admin_connections_per_address_max
    )


def _limits(settings: ConnectionSettings, connections: int, per_address: int) -> Limits:
    return Limits(
        connections=connections,
        per_address=per_address,
        head_s=settings.connection_head_timeout_ms / 1000,
        body_grace_s=settings.connection_body_grace_ms / 1000,
        write_s=settings.connection_write_timeout_ms / 1000,
        bytes_per_s=settings.connection_min_bytes_per_s,
        idle_s=settings.connection_idle_timeout_ms / 1000,
        incomplete_bytes=settings.incomplete_requests_max_bytes,
    )


def _raised(wanted: int) -> int:
    """Raise the soft limit of open files to `wanted` if possible; returns the resulting limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted if soft == resource.RLIM_INFINITY else soft
    new = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (new, hard))
    except (OSError, ValueError):  # macOS: the kernel's own maximum is below the hard limit
        return soft
    return new
