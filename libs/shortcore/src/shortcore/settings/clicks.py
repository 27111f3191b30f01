"""Settings of click capture and of the click streams."""

from pydantic import Field

from shortcore.settings.fields import Milliseconds
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
        "wait to be sent (about 100 bytes each). Further clicks are dropped and counted",
    )
    clicks_flush_ms: Milliseconds = Field(
        200,
        gt=0,
        description="Interval at which clicks are sent to Redis. 500 clicks of one stream are sent "
        "at once",
    )
    clicks_stream_max_length: int = Field(
        5000,
        ge=10,
        description="Approximate maximum number of entries in each stream (up to 30 KB each). Older "
        "entries are trimmed, and their clicks are lost if nobody has read them",
    )
