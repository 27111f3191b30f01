"""The writer's figures for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Histogram

from shortcore.runtime.metrics import LATENCY_BUCKETS_S

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Metrics:
    """Requests by route and status class, and how long they took."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "shortlinks_api_requests",
            "Requests to the API, by route, method and class of status.",
            ["route", "method", "status"],
            registry=registry,
        )
        self._seconds = Histogram(
            "shortlinks_api_request_duration_seconds",
            "Time from a request to the end of its answer, by route.",
            ["route"],
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )

        self._bound: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one request; `status` 0 means that it was never answered."""
        # A made-up method must not become a label: there is no end to them.
        known = method if method in METHODS else "other"
        bound = self._bound.get((route, known, status // 100))
        if bound is None:
            bound = (
                self._requests.labels(route, known, f"{status // 100}xx"),
                self._seconds.labels(route),
            )
            self._bound[route, known, status // 100] = bound
        bound[0].inc()
        bound[1].observe(seconds)
