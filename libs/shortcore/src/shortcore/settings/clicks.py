"""Settings of click capture and of the click streams."""

from pathlib import Path

from pydantic import Field

from shortcore.settings.fields import HeaderName, Milliseconds
from shortcore.settings.sources import Settings


class ClickStreamSettings(Settings):
    """Click streams."""

    clicks_partitions: int = Field(
        4,
        ge=1,
        le=64,
        description="Number of streams; the link decides the stream of a click. All services must "
        "have the same number",
    )


class ClickSettings(ClickStreamSettings):
    """Clicks."""

    clicks_enabled: bool = Field(True, description="Whether clicks are captured")
    clicks_ring_size: int = Field(
        50_000,
        ge=1,
        le=10_000_000,
        description="Maximum number of unparsed clicks in a process, and also of parsed clicks that "
        "wait to be sent (at most 300 bytes each on average). Further clicks are dropped and counted",
    )
    clicks_flush_ms: Milliseconds = Field(
        200,
        gt=0,
        description="Interval at which clicks are sent to Redis. 500 clicks or 30 KB of one stream are "
        "sent at once",
    )
    clicks_stream_max_length: int = Field(
        5000,
        ge=10,
        description="Approximate maximum size of each stream, in entries of 30 KB. A stream keeps "
        "proportionally more entries if they are smaller. Older entries are trimmed, and their clicks "
        "are lost if nobody has read them",
    )
    clicks_respect_dnt: bool = Field(
        False,
        description="Whether a request with `DNT: 1` or `Sec-GPC: 1` is only counted: its click has "
        "no visitor, agent, referrer, language, place or UTM values",
    )
    geoip_database: Path | None = Field(
        None,
        description="MaxMind DB file from which clicks get a country and a region (such as "
        "GeoLite2-City). A changed file is loaded within about a minute",
    )
    geoip_country_header: HeaderName | None = Field(
        None,
        description="Header in which trusted proxies send the country of the client, such as "
        "`CF-IPCountry`. It takes precedence over `geoip_database`",
    )
