"""Plain integers that the hot path adds to; turned into metrics when somebody scrapes.

A slot is an index into one list, bound to its labels once: counting a request is an addition.
"""

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

LOCAL_HITS = 0
"""The slot of hits on the local cache that the hot path answered."""


class Counts(Collector):
    """`values[slot]`: answers by result and status, and look-ups by layer and result."""

    def __init__(self) -> None:
        self.values = [0]
        self._responses: dict[tuple[str, str], int] = {}
        self._lookups: dict[tuple[str, str], int] = {("local", "hit"): LOCAL_HITS}

    def response(self, result: str, status: int) -> int:
        """Return the slot of answers with this result and status."""
        return self._slot(self._responses, (result, str(status)))

    def lookup(self, layer: str, result: str) -> int:
        """Return the slot of look-ups in this layer with this result."""
        return self._slot(self._lookups, (layer, result))

    def collect(self) -> Iterable[Metric]:
        """Read every slot now."""
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
