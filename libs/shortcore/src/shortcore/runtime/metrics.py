"""The metrics registry, the buckets of latencies, and metrics that are read from memory.

Dashboards and alerts depend on the names of metrics. A name starts with `shortlinks_` and ends with
its unit.
"""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.gc_collector import GCCollector
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.registry import Collector

from shortcore.http.framing import RULES, refused

LATENCY_BUCKETS_S = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
)  # fmt: skip

CONTENT_TYPE = CONTENT_TYPE_LATEST


def new_registry() -> CollectorRegistry:
    """Return a registry with the metrics of the process: CPU, memory, garbage collection."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    memory = FromMemory()
    memory.counter(
        "shortlinks_http_refused",
        "HTTP requests that were refused before they reached the application, by rule.",
        lambda: {rule: refused[rule] for rule in RULES},
        "rule",
    )
    registry.register(memory)
    return registry


def exposition(registry: CollectorRegistry) -> bytes:
    """Return all metrics in the OpenMetrics text format."""
    return bytes(generate_latest(registry))


class FromMemory(Collector):
    """Exports numbers that other objects hold in memory, and reads them only at a scrape.

    A source is a function that returns a number, or a dict of label values to numbers if the metric
    has a label.
    """

    def __init__(self) -> None:
        self._sources: list[tuple[str, str, str, str | None, Callable[[], object]]] = []

    def counter(
        self, name: str, documentation: str, source: Callable[[], object], label: str | None = None
    ) -> None:
        """Export `source()` as the counter `name` (without `_total`)."""
        self._sources.append(("counter", name, documentation, label, source))

    def gauge(
        self, name: str, documentation: str, source: Callable[[], object], label: str | None = None
    ) -> None:
        """Export `source()` as the gauge `name`."""
        self._sources.append(("gauge", name, documentation, label, source))

    def collect(self) -> Iterable[Metric]:
        """Read all sources."""
        for kind, name, documentation, label, source in self._sources:
            labels = [label] if label else []
            family: CounterMetricFamily | GaugeMetricFamily = (
                CounterMetricFamily(name, documentation, labels=labels)
                if kind == "counter"
                else GaugeMetricFamily(name, documentation, labels=labels)
            )
            value = source()
            if isinstance(value, dict):
                for label_value, number in value.items():
                    family.add_metric([str(label_value)], float(number))
            elif isinstance(value, (int, float)):
                family.add_metric([], float(value))
            else:
                raise TypeError(
                    f"{name}: the source returned {value!r}, which is neither a number nor a dict"
                )
            yield family
