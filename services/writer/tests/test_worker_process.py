"""The process of the worker: it waits for PostgreSQL, is ready, and ends in order."""

from harness.rig import exit_code
from harness.stack import Stack


def test_a_worker_is_ready_exports_metrics_and_ends_at_sigterm(stack: Stack):
    worker = stack.worker()
    assert "shortlinks_worker_errors_total" in worker.ask("/metrics")[1]
    assert '"postgres":{"ok":true' in worker.ask("/health")[1].replace(" ", "")
    worker.child.stop()
    assert exit_code(worker) == 0
