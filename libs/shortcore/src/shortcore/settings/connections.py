"""Settings of the connections that clients open to a service."""

from pydantic import Field

from shortcore.settings.fields import Milliseconds, Words
from shortcore.settings.sources import Settings


class ConnectionSettings(Settings):
    """Limits of connections."""

    connections_max: int = Field(
        10_000,
        ge=1,
        le=1_000_000,
        description="Maximum number of connections to the public port of a process. The limit is "
        "lower if the process may not open enough files (`ulimit -n`)",
    )
    connections_per_address_max: int = Field(
        4000,
        ge=0,
        le=1_000_000,
        description="Maximum number of connections from one IPv4 address or IPv6 /64 network to "
        "the public port; 0: no limit. `trusted_proxies` have no limit",
    )
    admin_connections_max: int = Field(
        64, ge=1, le=10_000, description="Maximum number of connections to the admin port"
    )
    admin_connections_per_address_max: int = Field(
        16,
        ge=0,
        le=10_000,
        description="Maximum number of connections from one IPv4 address or IPv6 /64 network to "
        "the admin port; 0: no limit. `trusted_proxies` have no limit",
    )
    file_descriptors_reserved: int = Field(
        256,
        ge=16,
        le=100_000,
        description="File descriptors that are reserved for PostgreSQL, Redis and logs. Connections "
        "to the public port do not use them, nor those of the admin port",
    )
    connection_head_timeout_ms: Milliseconds = Field(
        15_000,
        gt=0,
        description="Timeout of the request line and headers, from the start of the connection or "
        "from the first byte of a later request. The response is 408",
    )
    connection_body_grace_ms: Milliseconds = Field(
        10_000,
        gt=0,
        description="Interval over which the rate of a request body is measured",
    )
    connection_write_timeout_ms: Milliseconds = Field(
        30_000,
        gt=0,
        description="Interval over which the rate is measured at which a client reads a response",
    )
    connection_min_bytes_per_s: int = Field(
        512,
        ge=1,
        le=1_000_000,
        description="Minimum rate of a request body, and of a response that a client reads. Slower "
        "connections are closed",
    )
    connection_idle_timeout_ms: int = Field(
        75_000,
        gt=0,
        le=3_600_000,
        description="Timeout of an idle keep-alive connection. Set it above the idle timeout of the "
        "load balancer (usually 60 s): if the service closes a connection first, a request may be "
        "lost",
    )
    incomplete_requests_max_bytes: int = Field(
        64 * 1024 * 1024,
        ge=1024 * 1024,
        description="Maximum size of all incomplete requests to one port of a process. Above it, "
        "the oldest of them get status 408",
    )
    trusted_proxies: Words = Field(
        frozenset({"127.0.0.1", "::1"}),
        description="Addresses or networks of proxies, separated by commas. Their "
        "`X-Forwarded-For` header is trusted, and their connections have no limit per address",
    )
