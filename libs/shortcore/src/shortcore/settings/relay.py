"""Settings of the outbox relay."""

from pydantic import Field

from shortcore.settings.fields import Milliseconds, Port
from shortcore.settings.shared import ServiceSettings


class RelaySettings(ServiceSettings):
    """The outbox relay (`shortlinks-writer relay`)."""

    relay_admin_port: Port = Field(9002, description="Port of probes and metrics")
    relay_batch_size: int = Field(
        1000, ge=1, le=10_000, description="Maximum number of outbox rows that are claimed at once"
    )
    relay_poll_ms: Milliseconds = Field(
        250,
        gt=0,
        description="Polling interval of the outbox. Usually a notification from PostgreSQL wakes "
        "the relay earlier",
    )
    relay_redis_timeout_ms: Milliseconds = Field(
        1000,
        gt=0,
        description="Timeout of a call to Redis. It is longer than `redis_timeout_ms` because a "
        "batch takes longer than a lookup",
    )
    relay_bulk_rate: int = Field(
        10_000,
        ge=1,
        le=1_000_000,
        description="Maximum rate of bulk links (new links of imports and large batches) that go to "
        "Redis. Changes of single links have priority and no limit",
    )
    relay_republish_rate: int = Field(
        2000,
        ge=1,
        le=1_000_000,
        description="Maximum rate of links that are written to Redis again after Redis lost changes",
    )
