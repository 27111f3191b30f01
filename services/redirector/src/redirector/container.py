"""The container of the redirector: builds all parts from the settings, for use by the adaptors."""

import time
from collections.abc import Callable
from functools import partial

import structlog
from prometheus_client import Histogram

from redirector import metrics
from redirector.clicks.capture import ClickCapture
from redirector.client_address import ClientAddresses
from redirector.counts import Counts
from redirector.domains.cache import Domains
from redirector.domains.forwarded import make_forwarded
from redirector.domains.loader import DomainLoader
from redirector.domains.unknown_hosts import UnknownHosts
from redirector.links.existence import Existence, make_scan_filter
from redirector.links.handler import make_handle
from redirector.links.prepare import make_prepare, prepare_again
from redirector.links.renewal import make_fresh
from redirector.links.respond import make_respond
from redirector.links.service import RedirectService
from redirector.links.visits import Visits
from redirector.lookup import repository
from redirector.lookup.custom_codes import CustomCodes
from redirector.lookup.freshness import RelayHeartbeat
from redirector.lookup.invalidation import WAIT_MS, Invalidation
from redirector.lookup.lookup import LinkCache, Lookup
from redirector.lookup.scan_detection import ScanDetector
from redirector.lookup.schema import SchemaCheck
from redirector.lookup.token_bucket import TokenBucket
from redirector.passwords.check import WAIT_BUCKETS_S, Passwords
from redirector.passwords.cookie import VisitorCookies
from redirector.passwords.pacer import Pacer
from redirector.passwords.rate_limit import RateLimit
from redirector.passwords.unlock import Unlock
from redirector.responses.cdn import Cdn
from redirector.responses.cors import every_response
from redirector.responses.pages import Pages
from redirector.responses.responses import Responses
from redirector.rules.pasted import clean_path, never
from shortcore.cache.keys import CacheKeys
from shortcore.cache.local import LocalCache
from shortcore.cache.wiring import cache_ttls, open_cache, open_feed
from shortcore.clock import unix_ms
from shortcore.links.codes import CodeSpace
from shortcore.links.record import LinkKey
from shortcore.runtime.background import Background
from shortcore.runtime.dynamic_settings import DynamicFile
from shortcore.runtime.health import Health
from shortcore.runtime.metrics import LATENCY_BUCKETS_S, FromMemory, new_registry
from shortcore.settings.redirector import RedirectorSettings
from shortcore.storage.postgres import Postgres
from shortcore.storage.redis import open_redis
from shortcore.storage.wiring import make_breaker, open_primary, open_replica

log = structlog.stdlib.get_logger(__name__)

APPLICATION = "shortlinks-redirector"


REPLICA_MISSES_PER_S = 50
"""Maximum misses of the read replica per second that are looked up in the primary."""


class Redirector:
    """All parts of a redirector; `open_redirector` creates it, `start()` starts it.

    `clock` is a monotonic clock in seconds, `now_ms` the wall clock in Unix milliseconds.
    """

    def __init__(
        self,
        settings: RedirectorSettings,
        *,
        primary: Postgres,
        replica: Postgres | None,
        clock: Callable[[], float],
        now_ms: Callable[[], int],
    ) -> None:
        self.settings = settings
        self.health = Health()
        self.background = Background()
        self.registry = new_registry()
        self.counts = Counts()
        self.client_addresses = ClientAddresses(settings.trusted_proxies)
        self.clock = clock
        self._primary = primary
        self._replica = replica
        negative_s = settings.l1_negative_ttl_s
        self.responses = Responses(
            self.counts,
            Pages(),
            Cdn(settings.cdn_max_age_s, settings.cdn_stale_s, settings.cdn_key_header),
            not_found_max_age_s=int(min(negative_s, 5)),
            every=every_response(settings.redirector_cors_origins, settings.forwarded_host_header),
        )
        self.unknown_hosts = UnknownHosts(clock)
        self.domains = Domains(
            settings.default_domain,
            self.responses,
            self.unknown_hosts,
            settings.unknown_host,
            settings.unknown_host_target,
        )
        self.forwarded = make_forwarded(settings.forwarded_host_header, self.client_addresses)
        self.cache: LinkCache = LocalCache(
            max_entries=settings.l1_max_entries,
            max_bytes=settings.l1_max_bytes,
            ttl_s=settings.l1_ttl_s,
            negative_ttl_s=negative_s,
            stale_s=settings.l1_stale_if_error_s,
            refresh_ahead=settings.l1_refresh_ahead,
            prepare=make_prepare(self.responses, self.domains, clock),
            clock=clock,
        )
        self._wire(now_ms)
        self.dynamic = DynamicFile(settings, self._take)
        self._export()

    def _wire(self, now_ms: Callable[[], int]) -> None:
        settings, clock = self.settings, self.clock
        opened = open_cache(settings, make_breaker(settings, clock), APPLICATION, now_ms=now_ms)
        keys, self._client, self.store = opened.keys, opened.client, opened.store
        self._feed_client = open_redis(
            settings.redis_url.get_secret_value(),
            timeout_ms=WAIT_MS + max(1000, settings.redis_timeout_ms),
            pool_size=2,
            application=f"{APPLICATION}-feed",
        )
        seconds = Histogram(
            "shortlinks_lookup_duration_seconds",
            "Time of one batch of lookups in a layer",
            ["layer"],
            registry=self.registry,
            buckets=LATENCY_BUCKETS_S,
        )
        self.sampled = Histogram(
            "shortlinks_redirect_duration_seconds",
            "Time of one response in 64, from the head of the request to the last byte of the response",
            registry=self.registry,
            buckets=LATENCY_BUCKETS_S,
        )
        self.heartbeat = RelayHeartbeat()
        scan = ScanDetector(settings.unknown_lookups_per_s)
        self.lookup = Lookup(
            self.cache,
            self.store,
            self._primary,
            self._replica,
            workers=min(settings.lookup_concurrency, settings.postgres_pool_size),
            misses=TokenBucket(REPLICA_MISSES_PER_S, clock),
            scan=scan,
            counts=self.counts,
            seconds=seconds,
            heartbeat=self.heartbeat,
            clock=clock,
            now_ms=now_ms,
        )
        decode = CodeSpace(settings.code_secret.get_secret_value().encode()).decode_any
        self.custom_codes = CustomCodes(
            partial(repository.count_custom, self._primary),
            partial(repository.custom_keys, self._primary),
            partial(repository.sample_generated, self._primary),
            decode=decode,
            max_codes=settings.custom_codes_max,
            clock=clock,
        )
        clean = clean_path if settings.clean_pasted_urls else never
        self.scan_filter = make_scan_filter(
            decode, self.custom_codes, self.cache, scan, self.counts, clock, clean
        )
        fresh = make_fresh(self.cache, self._renew, clock)
        self.unlock = self._make_unlock(keys, now_ms)
        self._visits = Visits(self._primary, settings.preview_max_visits)
        self.click_capture = ClickCapture(
            settings, self._client, keys, self.client_addresses, now_ms=now_ms
        )
        respond = make_respond(self.counts, self.click_capture.capture)
        service = RedirectService(
            self.responses,
            self.domains,
            fresh,
            self.scan_filter.rejects,
            self.lookup,
            self._visits,
            self.unlock,
            self.client_addresses,
            respond,
            self.counts,
            now_ms,
            forwards=settings.redirect_other_methods,
            clean=clean,
        )
        self.schema = SchemaCheck(self._primary)
        self.handle = make_handle(
            self.cache,
            fresh,
            scan,
            self.scan_filter,
            self.lookup,
            service,
            self.responses.unavailable,
            respond,
            self.click_capture.capture,
            self.counts,
            clock,
        )
        self.loader = DomainLoader(
            self.domains,
            self._primary,
            self._replica,
            self._client,
            keys,
            settings.redis_timeout_ms,
            changed=partial(prepare_again, self.cache),
        )
        self.invalidation = Invalidation(
            open_feed(settings, self._feed_client, keys),
            self.cache,
            heartbeat=self.heartbeat,
            custom_codes=self.custom_codes,
            domain_changed=self.loader.wake,
            clock=clock,
            now_ms=lambda: now_ms() + (self.store.clock_offset_ms or 0),
        )

    def _renew(self, key: LinkKey) -> None:
        if self.scan_filter.existence_of(key, self.clock()) is not Existence.ABSENT:
            self.lookup.renew(key)

    def _make_unlock(self, keys: CacheKeys, now_ms: Callable[[], int]) -> Unlock:
        settings, clock = self.settings, self.clock
        secret = settings.code_secret.get_secret_value().encode()
        rate_limit = RateLimit(
            self._client,
            keys,
            self.store.breaker,
            secret=secret,
            attempts=settings.password_attempts,
            timeout_ms=settings.redis_timeout_ms,
            clock=clock,
        )
        pacer = Pacer(
            self._client,
            keys,
            self.store.breaker,
            checks_per_s=settings.password_link_checks_per_s,
            burst=settings.password_link_burst,
            timeout_ms=settings.redis_timeout_ms,
            clock=clock,
        )
        passwords = Passwords(
            rate_limit,
            pacer,
            concurrency=settings.password_concurrency,
            queue_size=settings.password_queue_size,
            link_queue_size=settings.password_link_queue_size,
            wait_ms=settings.password_wait_ms,
            waited=Histogram(
                "shortlinks_password_wait_duration_seconds",
                "Time from a visitor's password to the start of its check",
                registry=self.registry,
                buckets=WAIT_BUCKETS_S,
            ),
            clock=clock,
        )
        cookies = VisitorCookies(secret, settings.password_cookie_ttl_s, now_ms)
        return Unlock(self.responses, passwords, cookies)

    def _take(self, settings: RedirectorSettings) -> None:
        self.cache.set_ttls(settings.l1_ttl_s, settings.l1_negative_ttl_s)
        self.store.ttls = cache_ttls(settings)

    def _export(self) -> None:
        breakers = {"redis": self.store.breaker, "postgres": self._primary.breaker}
        checks = [self._primary.check, self.store.check, self.invalidation.check, self.schema.check]
        if self._replica is not None:
            breakers["replica"] = self._replica.breaker
            checks.append(self._replica.check)
        memory = FromMemory()
        metrics.export_cache(memory, self.cache, self.store)
        metrics.export_lookup(memory, self.lookup, self.custom_codes)
        metrics.export_domains(memory, self.domains, self.unknown_hosts)
        metrics.export_feed(memory, self.invalidation)
        metrics.export_breakers(memory, breakers)
        for part in (self.dynamic, self.click_capture, self.background, self.unlock, self._visits):
            part.export(memory)
        self.registry.register(memory)
        self.registry.register(self.counts)
        for check in checks:
            self.health.add(check)

    async def start(self) -> None:
        """Check the schema, read the domains and follow the feed, even if every server is down.

        Waits while PostgreSQL is available and has an older schema than this code needs. Raises
        ConfigurationError if the schema needs newer code.
        """
        self.dynamic.read()
        await self.schema.wait()
        await self.loader.load()
        run = self.background.run_forever
        run("schema", self.schema.run())
        run("domains", self.loader.run())
        run("change feed", self.invalidation.run())
        run("custom codes", self.custom_codes.run())
        run("clock of Redis", self.store.follow_clock())
        run("dynamic settings", self.dynamic.watch())
        self.click_capture.start(self.background)

    async def close(self) -> None:
        """Send the last clicks, stop what `start` started, and close every connection."""
        self.background.ending = True
        await self.click_capture.close()
        await self.background.close()
        await self.lookup.close()
        await self.unlock.close()
        await self.store.close()
        await self._feed_client.aclose()
        await self._primary.close()
        if self._replica is not None:
            await self._replica.close()


async def open_redirector(
    settings: RedirectorSettings,
    *,
    clock: Callable[[], float] = time.monotonic,
    now_ms: Callable[[], int] = unix_ms,
) -> Redirector:
    """Return a redirector; it opens no connection before `start()`.

    Raises ConfigurationError for settings whose errors show only at their first use.
    """
    return Redirector(
        settings,
        primary=await open_primary(settings, make_breaker(settings, clock), APPLICATION),
        replica=await open_replica(settings, make_breaker(settings, clock), APPLICATION),
        clock=clock,
        now_ms=now_ms,
    )
