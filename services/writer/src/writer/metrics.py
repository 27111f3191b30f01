"""The metrics of API requests."""

from prometheus_client import CollectorRegistry, Counter, Histogram

from shortcore.runtime.metrics import LATENCY_BUCKETS_S

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Metrics:
    """Counts requests and their durations by route."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "shortlinks_api_requests",
            "API requests, by route, method and class of status.",
            ["route", "method", "status"],
            registry=registry,
        )
        self._seconds = Histogram(
            "shortlinks_api_request_duration_seconds",
            "Time from the start of a request to the end of its response, by route.",
            ["route"],
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )

        self._bound: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one request; `status` is 0 if no response was sent."""
        # Clients can send any method; each label value takes memory.
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
