"""Settings of the worker."""

from pydantic import Field

from shortcore.settings.clicks import ClickStreamSettings
from shortcore.settings.fields import Milliseconds, Port
from shortcore.settings.shared import ServiceSettings, ShortUrlSettings
from shortcore.settings.webhooks import WebhookAddressSettings, WebhookDeliverySettings


class WorkerSettings(
    ServiceSettings,
    ClickStreamSettings,
    ShortUrlSettings,
    WebhookAddressSettings,
    WebhookDeliverySettings,
):
    """The worker (`shortlinks-writer worker`)."""

    worker_admin_port: Port = Field(9003, description="Port of probes and metrics")
    worker_flush_ms: Milliseconds = Field(
        500,
        gt=0,
        description="Interval at which the clicks of a stream are written to PostgreSQL. Statistics "
        "are older by up to this time",
    )
    worker_batch_clicks: int = Field(
        50_000,
        ge=1000,
        le=200_000,
        description="Maximum number of clicks in the memory of a process that are not yet written to "
        "PostgreSQL, over all of its streams (about 1 KB each). When it is reached, clicks are written "
        "before `worker_flush_ms` is over",
    )
    worker_lease_s: int = Field(
        10,
        ge=2,
        le=600,
        description="Time after which other workers take over the streams of a worker that no longer "
        "answers. A worker that stops releases its streams at once",
    )
    worker_stream_retention_s: int = Field(
        300,
        ge=0,
        le=86_400,
        description="Time for which a click stream keeps counted clicks. If PostgreSQL loses "
        "transactions in a failover, clicks up to this age are counted again",
    )
    worker_cached_rollups: int = Field(
        20_000,
        ge=0,
        le=10_000_000,
        description="Maximum number of rows of statistics in the memory of a process (about 4 KB "
        "each). Other rows are read from PostgreSQL before each write",
    )
    worker_cached_links: int = Field(
        100_000,
        ge=0,
        le=10_000_000,
        description="Maximum number of links whose domain, tags and owner a process remembers for up "
        "to a minute (about 150 bytes each)",
    )
    worker_redis_timeout_ms: Milliseconds = Field(
        5000,
        ge=2000,
        description="Timeout of a call to Redis. A call reads many clicks, or waits up to a second "
        "for the next one",
    )
    worker_postgres_timeout_ms: Milliseconds = Field(
        30_000,
        gt=0,
        description="Timeout of a transaction that writes clicks. A transaction that takes longer is "
        "rolled back and repeated",
    )
    stats_values_per_day: int = Field(
        500,
        ge=10,
        le=10_000,
        description="Maximum number of different values (such as referrers) that are stored for a "
        "link, domain or tag per day and stream. The rarest are added up as `(other)`",
    )
    stats_retention_days: int = Field(
        1095,
        ge=0,
        le=36_500,
        description="Days for which statistics are kept. A month is deleted once all of its days are "
        "older. 0 keeps statistics for ever. The totals of a link remain as long as the link",
    )
