"""Counters of the hot path: plain integers, which become metrics at a scrape.

A slot is the index of a counter with fixed labels, so that counting a request is one addition.
"""

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

LOCAL_HITS = 0
"""The slot of hits on the local cache that the hot path answered."""


class Counts(Collector):
    """Counts responses by result and status, and lookups by layer and result, in `values[slot]`."""

    def __init__(self) -> None:
        self.values = [0]
        self._responses: dict[tuple[str, str], int] = {}
        self._lookups: dict[tuple[str, str], int] = {("local", "hit"): LOCAL_HITS}

    def response(self, result: str, status: int) -> int:
        """Return the slot that counts responses with this result and status."""
        return self._slot(self._responses, (result, str(status)))

    def lookup(self, layer: str, result: str) -> int:
        """Return the slot that counts lookups in this layer with this result."""
        return self._slot(self._lookups, (layer, result))

    def add(self, counter: int) -> None:
        """Count one event."""
        self.values[counter] += 1

    def collect(self) -> Iterable[Metric]:
        """Return the metrics with the current values of all slots."""
        service = CounterMetricFamily(
            "shortlinks_redirects",
            "Responses on the port of the short links",
            labels=["result", "status"],
        )
        for labels, slot in self._responses.items():
            service.add_metric(labels, self.values[slot])
        yield service
        lookups = CounterMetricFamily(
            "shortlinks_lookup", "Look-ups of links", labels=["layer", "result"]
        )
        for labels, slot in self._lookups.items():
            lookups.add_metric(labels, self.values[slot])
        yield lookups

    def _slot(self, slots: dict[tuple[str, str], int], labels: tuple[str, str]) -> int:
        slot = slots.get(labels)
        if slot is None:
            slot = slots[labels] = len(self.values)
            self.values.append(0)
        return slot
