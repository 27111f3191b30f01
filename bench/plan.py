"""How much is measured: `BENCH=quick`, nothing, or `BENCH=full`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """Sizes of a run; `seconds` of a measurement, `warm_s` before each, both a case and round."""

    name: str
    links: int
    rounds: int
    seconds: float
    warm_s: float
    latency_rounds: int
    latency_s: float
    every_case_on_every_server: bool
    create_rounds: int
    create_s: float
    import_rows: int
    """Of an import, and of the COPY beside it."""

    @property
    def hot_links(self) -> int:
        """Links of the local-hit case."""
        return min(10_000, self.links)

    @property
    def local_share(self) -> int:
        """Entries of the local cache in the Zipf case: 10% of the links."""
        return self.links // 10


PLANS = {
    "quick": Plan(
        "quick", links=100_000, rounds=2, seconds=1.0, warm_s=0.5, latency_rounds=1, latency_s=1.5,
        every_case_on_every_server=False, create_rounds=1, create_s=1.0, import_rows=20_000,
    ),
    "default": Plan(
        "default", links=200_000, rounds=3, seconds=3.0, warm_s=1.0, latency_rounds=5,
        latency_s=2.0, every_case_on_every_server=False, create_rounds=3, create_s=3.0,
        import_rows=100_000,
    ),
    "full": Plan(
        "full", links=1_000_000, rounds=5, seconds=8.0, warm_s=2.0, latency_rounds=3,
        latency_s=10.0, every_case_on_every_server=True, create_rounds=5, create_s=8.0,
        import_rows=500_000,
    ),
}  # fmt: skip

CONNECTIONS = 64
LOAD = 0.6
"""Latency is measured at this share of the throughput just measured."""
