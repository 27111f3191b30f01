"""The metrics of the redirector that are read from its parts when Prometheus scrapes."""

from collections.abc import Mapping

from redirector.domains.cache import Domains
from redirector.domains.unknown_hosts import UnknownHosts
from redirector.lookup.custom_codes import CustomCodes
from redirector.lookup.invalidation import Invalidation
from redirector.lookup.lookup import LinkCache, Lookup
from shortcore.cache.store import CacheStore
from shortcore.runtime.metrics import FromMemory
from shortcore.storage.circuit_breaker import Breaker


def export_cache(memory: FromMemory, cache: LinkCache, store: CacheStore) -> None:
    """Add the metrics of the local cache and of the records in Redis."""
    memory.gauge("shortlinks_local_cache_entries", "Links in the local cache", lambda: len(cache))
    memory.gauge(
        "shortlinks_local_cache_bytes",
        "Approximate size of the local cache in bytes",
        lambda: cache.bytes,
    )
    memory.counter(
        "shortlinks_local_cache_evictions",
        "Entries evicted from the local cache",
        lambda: cache.evictions,
    )
    memory.counter(
        "shortlinks_cache_corrupt",
        "Corrupt cache values in Redis",
        lambda: store.corrupt_total,
    )


def export_lookup(memory: FromMemory, lookup: Lookup, custom_codes: CustomCodes) -> None:
    """Add the metrics of lookups and of the filter of custom codes."""
    memory.gauge(
        "shortlinks_lookups_in_flight",
        "Keys being looked up in Redis or PostgreSQL",
        lambda: len(lookup),
    )
    memory.gauge(
        "shortlinks_custom_codes",
        "Custom codes in the filter that rejects unknown codes during a scan",
        lambda: len(custom_codes) if custom_codes.loaded else 0,
    )
    memory.gauge(
        "shortlinks_custom_codes_trusted",
        "1 while the filter has every custom code and a scan is rejected without lookups",
        lambda: int(custom_codes.trusted()),
    )
    memory.gauge(
        "shortlinks_custom_codes_false_positive_ratio",
        "Share of unknown codes that are false positives of the filter, and cost a lookup",
        lambda: custom_codes.false_positive_ratio,
    )


def export_domains(memory: FromMemory, domains: Domains, unknown_hosts: UnknownHosts) -> None:
    """Add the metrics of domains and of hosts that belong to no domain."""
    memory.gauge("shortlinks_domains", "Domains in the domain table", lambda: len(domains))
    memory.counter(
        "shortlinks_unknown_host_requests",
        "Requests whose host belongs to no domain",
        lambda: unknown_hosts.total,
    )


def export_feed(memory: FromMemory, invalidation: Invalidation) -> None:
    """Add the metrics of the change feed."""
    memory.gauge(
        "shortlinks_feed_connected",
        "1 while the redirector follows the change feed",
        lambda: int(invalidation.connected),
    )
    memory.gauge(
        "shortlinks_feed_lag_seconds",
        "Delay of the newest change, or time since the change feed was cut",
        invalidation.lag_s,
    )
    memory.counter(
        "shortlinks_feed_gaps",
        "Gaps in the change feed: changes were lost",
        lambda: invalidation.gaps,
    )
    memory.counter(
        "shortlinks_feed_changes",
        "Changes received from the change feed",
        lambda: invalidation.changes,
    )


def export_breakers(memory: FromMemory, breakers: Mapping[str, Breaker]) -> None:
    """Add the metrics of the circuit breaker of each dependency."""
    memory.gauge(
        "shortlinks_breaker_state",
        "State of the circuit breaker: 0 closed, 1 half-open, 2 open",
        lambda: {name: int(breaker.state) for name, breaker in breakers.items()},
        "dependency",
    )
    memory.counter(
        "shortlinks_breaker_opened",
        "Times the circuit breaker opened",
        lambda: {name: breaker.opened_total for name, breaker in breakers.items()},
        "dependency",
    )
