"""The metrics of a worker."""

from shortcore.runtime.metrics import FromMemory
from writer.worker.worker import Worker


def export(worker: Worker, source: FromMemory) -> None:
    """Add the metrics of `worker` to `/metrics`."""
    worker.dynamic.export(source)
    worker.background.export(source)
    source.counter(
        "shortlinks_worker_errors",
        "Failed steps, by the dependency that failed",
        lambda: worker.stopping.errors,
        label="part",
    )
