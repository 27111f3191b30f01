"""The container: makes and connects everything at the start, and closes it at the end."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import structlog
from prometheus_client import CollectorRegistry

from shortcore.cache.store import CacheStore
from shortcore.cache.wiring import cache_ttls, open_cache
from shortcore.clock import Now, unix_ms, utc_now
from shortcore.links.codes import CodeSpace
from shortcore.runtime.background import Background
from shortcore.runtime.dynamic_settings import DynamicFile
from shortcore.runtime.metrics import FromMemory, new_registry
from shortcore.settings.writer import WriterSettings
from shortcore.storage.postgres import POSTGRES_RETRYABLE_ERRORS, Postgres
from shortcore.storage.wiring import make_breaker, open_primary, open_replica
from writer.domains.cache import DomainCache
from writer.domains.service import DomainService
from writer.http.idempotency import IdempotencyStore, purge_forever
from writer.keys.authenticator import ApiKeyAuthenticator
from writer.keys.service import KeyService
from writer.links.batch import BatchService
from writer.links.creation import Creator
from writer.links.drafts import Drafter
from writer.links.ids import IdBlocks
from writer.links.imports import ImportService
from writer.links.placement import Placement
from writer.links.replacement import ReplacementService
from writer.links.schemas import Presenter
from writer.links.service import LinkService
from writer.metrics import Metrics
from writer.relay.publisher import Publisher
from writer.stats.service import StatsService
from writer.storage.reads import Reads
from writer.webhooks.service import WebhookService
from writer.worker.webhooks.addresses import AddressPolicy

log = structlog.stdlib.get_logger(__name__)

APPLICATION = "shortlinks-writer"


@dataclass(frozen=True, slots=True)
class Container:
    """Everything that requests need."""

    settings: WriterSettings
    postgres: Postgres
    replica: Postgres | None
    reads: Reads
    cache: CacheStore
    domain_cache: DomainCache
    domains: DomainService
    keys: KeyService
    webhooks: WebhookService
    authenticator: ApiKeyAuthenticator
    drafter: Drafter
    links: LinkService
    stats: StatsService
    replacements: ReplacementService
    batches: BatchService
    imports: ImportService
    publisher: Publisher
    background: Background
    metrics: Metrics
    registry: CollectorRegistry
    dynamic: DynamicFile[WriterSettings]
    now: Now

    async def start(self) -> None:
        """Read what the first request needs, and start the background tasks.

        Raises DatabaseUnavailable, before it has started a task.
        """
        self.dynamic.read()
        await self.domain_cache.open()
        run = self.background.run_forever
        run("dynamic settings", self.dynamic.watch())
        run("domains", self.domain_cache.refresh_forever())
        run("key uses", self.authenticator.store_uses_forever())
        run("relay notifications", self.publisher.notify_forever())
        run("clock of Redis", self.cache.follow_clock())
        run("purge", purge_forever(self.postgres, self.settings.idempotency_ttl_s))

    async def flush(self) -> None:
        """Send the last relay notification, and store the last uses of API keys."""
        await self.background.close()
        await self.authenticator.store_uses()
        try:
            await self.publisher.notify()
        except POSTGRES_RETRYABLE_ERRORS as error:
            log.warning("relay notification failed; the relay will poll", error=str(error))


@contextlib.asynccontextmanager
async def open_container(settings: WriterSettings, now: Now = utc_now) -> AsyncIterator[Container]:
    """Make everything and close it at the end; nothing connects before its first use."""
    postgres = await open_primary(settings, make_breaker(settings), APPLICATION)
    replica = await open_replica(settings, make_breaker(settings), APPLICATION)
    opened = open_cache(
        settings, make_breaker(settings), APPLICATION, store_timeout_ms=settings.publish_timeout_ms
    )
    cache = opened.store
    publisher = Publisher(cache, opened.feed, postgres, unix_ms)
    container = _assemble(settings, postgres, replica, cache, publisher, now)
    try:
        yield container
    finally:
        await container.background.close()
        await cache.close()
        await postgres.close()
        if replica is not None:
            await replica.close()


def _assemble(
    settings: WriterSettings,
    postgres: Postgres,
    replica: Postgres | None,
    cache: CacheStore,
    publisher: Publisher,
    now: Now,
) -> Container:
    background = Background()
    registry = new_registry()
    write_timeout_ms = settings.postgres_write_timeout_ms
    domain_cache = DomainCache(postgres, settings)
    authenticator = ApiKeyAuthenticator(postgres, now)
    codes = CodeSpace(settings.code_secret.get_secret_value().encode())
    reads = Reads(postgres, replica, write_timeout_ms)
    drafter = Drafter(domain_cache, settings, now)
    placement = Placement(IdBlocks(postgres, background.spawn), codes)
    creator = Creator(postgres, placement, publisher, write_timeout_ms)
    idempotency = IdempotencyStore(postgres, settings.idempotency_ttl_s)
    presenter = Presenter(settings.short_url_scheme, settings.short_url_port)
    links = LinkService(
        postgres=postgres,
        reads=reads,
        domains=domain_cache,
        drafter=drafter,
        creator=creator,
        idempotency=idempotency,
        publisher=publisher,
        presenter=presenter,
        now=now,
        write_timeout_ms=write_timeout_ms,
    )
    stats = StatsService(
        postgres=postgres,
        reads=reads,
        domains=domain_cache,
        links=links,
        presenter=presenter,
        now=now,
    )
    replacements = ReplacementService(
        postgres=postgres,
        domains=domain_cache,
        drafter=drafter,
        creator=creator,
        publisher=publisher,
        write_timeout_ms=write_timeout_ms,
    )
    batches = BatchService(
        drafter, creator, idempotency, presenter, now, max_items=settings.batch_max_items
    )
    imports = ImportService(drafter, creator, idempotency, timeout_ms=write_timeout_ms)
    breakers = {"postgres": postgres.breaker, "redis": cache.breaker}
    if replica is not None:
        breakers["replica"] = replica.breaker

    def apply(changed: WriterSettings) -> None:
        drafter.settings = changed
        cache.ttls = cache_ttls(changed)

    dynamic = DynamicFile(settings, apply)
    memory = FromMemory()
    for part in (creator, publisher, reads, dynamic, background):
        part.export(memory)
    memory.gauge(
        "shortlinks_breaker_state",
        "0 closed, 1 half-open, 2 open.",
        lambda: {name: int(breaker.state) for name, breaker in breakers.items()},
        "dependency",
    )
    registry.register(memory)
    return Container(
        settings=settings,
        postgres=postgres,
        replica=replica,
        reads=reads,
        cache=cache,
        domain_cache=domain_cache,
        domains=DomainService(postgres, reads, domain_cache, publisher, write_timeout_ms),
        keys=KeyService(postgres, authenticator),
        webhooks=WebhookService(
            postgres, AddressPolicy(settings.webhooks_allowed_networks), write_timeout_ms
        ),
        authenticator=authenticator,
        drafter=drafter,
        links=links,
        stats=stats,
        replacements=replacements,
        batches=batches,
        imports=imports,
        publisher=publisher,
        background=background,
        metrics=Metrics(registry),
        registry=registry,
        dynamic=dynamic,
        now=now,
    )
