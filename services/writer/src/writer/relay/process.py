"""Runs the process of a relay: starts it from its settings, and shuts it down gracefully."""

from functools import partial

from shortcore.cache.wiring import open_cache
from shortcore.settings.relay import RelaySettings
from shortcore.storage.wiring import make_breaker, open_primary
from writer import background_process
from writer.relay import metrics
from writer.relay.relay import APPLICATION, Relay


async def run(settings: RelaySettings) -> None:
    """Run a relay until SIGTERM. Raises ConfigurationError if the schema does not fit."""
    postgres = await open_primary(settings, make_breaker(settings), APPLICATION)
    cache = open_cache(
        settings, make_breaker(settings), APPLICATION, timeout_ms=settings.relay_redis_timeout_ms
    )
    relay = Relay(postgres, cache.store, cache.feed, cache.client, settings)
    await background_process.run(
        "relay",
        settings,
        settings.relay_admin_port,
        postgres=postgres,
        check_redis=cache.store.check,
        background=relay.background,
        export=partial(metrics.export, relay),
        start=relay.start,
        flush=[relay.stop, postgres.close, cache.close],
    )
