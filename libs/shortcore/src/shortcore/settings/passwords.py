"""Settings of links with a password."""

from pydantic import Field

from shortcore.settings.fields import Milliseconds
from shortcore.settings.sources import Settings


class PasswordSettings(Settings):
    """Passwords of links."""

    password_attempts: int = Field(
        10,
        ge=1,
        description="Maximum number of wrong passwords per minute of one client (an IPv4 address or "
        "IPv6 /64 network) for one link. Then the client gets status 429",
    )
    password_link_checks_per_s: float = Field(
        10.0,
        ge=0.001,
        le=1000,
        description="Maximum rate of password checks of one link, over all redirectors. Checks above "
        "`password_link_burst` wait their turn",
    )
    password_link_burst: int = Field(
        30,
        ge=1,
        le=10_000,
        description="Number of password checks of one link that may exceed that rate. Correct "
        "passwords do not count",
    )
    password_concurrency: int = Field(
        2,
        ge=1,
        le=64,
        description="Maximum number of concurrent password checks of a process. Each takes 19 MiB "
        "of memory and about 40 ms of one core",
    )
    password_queue_size: int = Field(
        1024,
        ge=1,
        le=100_000,
        description="Maximum number of waiting password checks of a process. When the queue is full, "
        "one check is dropped, and its request gets status 503",
    )
    password_link_queue_size: int = Field(
        256,
        ge=1,
        le=100_000,
        description="Maximum number of waiting password checks of one link in a process. When it is "
        "reached, one check of the link is dropped, and its request gets status 503",
    )
    password_wait_ms: Milliseconds = Field(
        30_000,
        gt=0,
        description="Maximum waiting time of a password check. A request that would wait longer "
        "gets status 503",
    )
    password_cookie_ttl_s: int = Field(
        900,
        ge=0,
        le=86_400,
        description="Lifetime of the cookie with which a visitor does not have to enter the "
        "password of a link again; 0: no cookie",
    )
