"""The metrics of a relay."""

from shortcore.runtime.metrics import FromMemory
from writer.relay.outbox import MAX_COUNTED
from writer.relay.relay import Relay


def export(relay: Relay, source: FromMemory) -> None:
    """Add the metrics of `relay` to `/metrics`."""
    delivery, monitor = relay.delivery, relay.monitor
    source.gauge(
        "shortlinks_outbox_rows",
        f"Single changes that wait for a relay, counted up to {MAX_COUNTED}",
        lambda: monitor.backlog.rows,
    )
    source.gauge(
        "shortlinks_outbox_oldest_seconds",
        "Age of the oldest single change that waits for a relay",
        lambda: monitor.backlog.oldest_s,
    )
    source.gauge(
        "shortlinks_bulk_waiting_links",
        "Links created in bulk that wait for a relay",
        lambda: monitor.backlog.bulk_links,
    )
    source.gauge(
        "shortlinks_bulk_oldest_seconds",
        "Age of the oldest link created in bulk that waits for a relay",
        lambda: monitor.backlog.bulk_oldest_s,
    )
    source.counter(
        "shortlinks_relay_published",
        "Records offered to Redis, by result",
        lambda: delivery.published,
        label="result",
    )
    relay.dynamic.export(source)
    relay.background.export(source)
    source.counter("shortlinks_relay_batches", "Batches delivered", lambda: delivery.batches)
    source.counter(
        "shortlinks_relay_bulk_links",
        "Links created in bulk that were delivered",
        lambda: delivery.bulk_links,
    )
    source.counter(
        "shortlinks_relay_errors",
        "Failed batches, by the dependency that failed",
        lambda: relay.stopping.errors,
        label="part",
    )
    source.counter(
        "shortlinks_relay_rollbacks",
        "Times Redis was found in an older state, or replaced by another server",
        lambda: monitor.rollbacks,
    )
    source.counter(
        "shortlinks_relay_republished",
        "Links sent to Redis again after a rollback",
        lambda: monitor.republished,
    )
