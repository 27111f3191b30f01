"""What a worker has counted since its start, for the metrics."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Counts:
    """Totals of committed windows, and the age of the oldest uncounted entry of each stream."""

    clicks: int = 0
    commits: int = 0
    rejected: int = 0
    """Entries that cannot be counted."""
    lost: int = 0
    """Batches that are missing between two numbers of a redirector."""
    repeated: int = 0
    """Batches that were read again and not counted again."""
    overtaken: int = 0
    """Commits that were rolled back because another worker had counted the stream."""
    rollups_replaced: int = 0
    """Corrupt stored rollups, of which only the totals could be kept."""
    waiting_since_ms: dict[int, int] = field(default_factory=dict)
    """The time of the oldest uncounted entry of each stream, in Unix ms; 0: there is none."""

    def lag_s(self, now_ms: int) -> dict[int, float]:
        """Return the age of the oldest uncounted entry of each stream."""
        return {
            stream: max(0, now_ms - since_ms) / 1000 if since_ms else 0.0
            for stream, since_ms in sorted(self.waiting_since_ms.items())
        }
