"""The metrics of a worker."""

from shortcore.clock import unix_ms
from shortcore.runtime.metrics import FromMemory
from writer.worker import agents
from writer.worker.worker import Worker


def export(worker: Worker, source: FromMemory) -> None:
    """Add the metrics of `worker` to `/metrics`."""
    counts = worker.counts
    kept = worker.housekeeping
    worker.dynamic.export(source)
    worker.background.export(source)
    if worker.webhooks is not None:
        worker.webhooks.export(source)
    source.gauge(
        "shortlinks_worker_streams",
        "Click streams that this worker reads",
        lambda: worker.streams,
    )
    source.gauge(
        "shortlinks_worker_lag_seconds",
        "Age of the oldest entry that is not counted yet, by click stream",
        lambda: counts.lag_s(unix_ms()),
        label="stream",
    )
    source.counter("shortlinks_worker_clicks", "Clicks counted", lambda: counts.clicks)
    source.counter(
        "shortlinks_worker_commits", "Transactions that counted clicks", lambda: counts.commits
    )
    source.counter(
        "shortlinks_worker_entries_rejected",
        "Entries of click streams that could not be counted and were set aside",
        lambda: counts.rejected,
    )
    source.counter(
        "shortlinks_worker_batches_lost",
        "Batches that are missing in the numbers of a redirector: trimmed before they were counted, "
        "or lost by Redis",
        lambda: counts.lost,
    )
    source.counter(
        "shortlinks_worker_batches_repeated",
        "Batches that were read again, and not counted again",
        lambda: counts.repeated,
    )
    source.counter(
        "shortlinks_worker_commits_overtaken",
        "Transactions rolled back because another worker had counted the stream",
        lambda: counts.overtaken,
    )
    source.counter(
        "shortlinks_worker_rollups_replaced",
        "Corrupt stored statistics of which only the totals could be kept",
        lambda: counts.rollups_replaced,
    )
    source.counter(
        "shortlinks_worker_agents_unparsed",
        "Clicks counted without a browser, system and device, because too many agents were new",
        lambda: agents.CLASSIFIER.unparsed,
    )
    source.counter(
        "shortlinks_worker_partitions_created",
        "Monthly partitions of statistics created ahead",
        lambda: kept.partitions_created,
    )
    source.counter(
        "shortlinks_worker_partitions_dropped",
        "Monthly partitions of statistics dropped after `stats_retention_days`",
        lambda: kept.partitions_dropped,
    )
    source.counter(
        "shortlinks_worker_totals_deleted",
        "Totals of purged links deleted",
        lambda: kept.totals_deleted,
    )
    source.counter(
        "shortlinks_worker_errors",
        "Failed steps, by the dependency that failed",
        lambda: worker.stopping.errors,
        label="part",
    )
