"""The outbox relay: brings every committed change to Redis and to the change feed.

Claim rows, publish the records, append to the feed, delete the rows and commit: in this order,
so that a crash between any two steps repeats work and never loses any. Any number of relays
may run.

What was created in bulk goes the same way in a loop of its own, at a limited rate: single changes
do not wait for it.
"""

import asyncio
import contextlib
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial

import asyncpg
import structlog

from shortcore.cache.change_feed import Change, ChangeFeed, FeedUnreadable, entry_order
from shortcore.cache.store import CacheStore, Published
from shortcore.cache.wiring import lifetimes_of, open_cache
from shortcore.clock import unix_ms
from shortcore.errors import CacheUnavailable, DatabaseUnavailable, Unavailable
from shortcore.http import connections
from shortcore.runtime import metrics
from shortcore.runtime.admin import AdminApp
from shortcore.runtime.background import Background
from shortcore.runtime.drain import UvicornServer, run
from shortcore.runtime.dynamic_settings import EVERY_S, DynamicFile
from shortcore.runtime.gc_tuning import collect_seldom
from shortcore.runtime.health import Health
from shortcore.runtime.loop_lag import LoopLag
from shortcore.settings import RelaySettings
from shortcore.storage.postgres import POSTGRES_RETRYABLE_ERRORS, Postgres
from shortcore.storage.redis import REDIS_UNAVAILABLE_ERRORS, Client, servers_of
from shortcore.storage.schema_wait import SchemaWait, check_schema_of, wait_for_schema
from shortcore.storage.wiring import make_breaker, open_primary
from shortcore.tasks import end_tasks
from writer.relay import outbox

log = structlog.stdlib.get_logger(__name__)

APPLICATION = "shortlinks-relay"

SAMPLE_S = 1.0
"""How often the backlog is measured and Redis is asked whether it is still the same."""

LISTEN_CHECK_S = 10.0
"""How often the connection that listens is asked whether it is still one."""

LISTEN_TIMEOUT_S = 5.0
"""How long that, or to begin to listen, may take."""

BACKOFF_S = (0.05, 1.0)
"""The shortest and the longest pause after a failure; jittered, doubling in between."""

SCHEMA_WAIT = SchemaWait(retry_on=(DatabaseUnavailable,), interval_s=1)
"""A relay waits for PostgreSQL without end. An older schema ends it with an explanation."""

_PIECE = 250
"""Links of a bulk that Redis and the feed are given at once: an edit has its turn in between."""

MARGIN_S = 60
"""A transaction takes less than this, from its `now()` to the read of its rows by a filler."""


class Relay:
    """Delivers changes until stopped; `deliver` and `watch` are its single steps.

    Both raise DatabaseUnavailable or CacheUnavailable, having deleted nothing.
    """

    def __init__(
        self,
        postgres: Postgres,
        store: CacheStore,
        feed: ChangeFeed,
        client: Client,
        settings: RelaySettings,
    ) -> None:
        self.dynamic = DynamicFile(settings, self._take)
        self.background = Background()
        self.published: Counter[str] = Counter(taken=0, older=0, expired=0)
        self.errors: Counter[str] = Counter(postgres=0, redis=0)
        self.batches = 0
        self.republished = 0
        self.rollbacks = 0
        self.bulk_links = 0
        self.backlog = outbox.Backlog()
        self._postgres = postgres
        self._store = store
        self._feed = feed
        self._client = client
        self._settings = settings
        self._longest_ttl_s = settings.cache_ttl_s
        self._timeout_ms = settings.postgres_write_timeout_ms
        self._woken = asyncio.Event()
        self._bulk_woken = asyncio.Event()
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin to deliver, to watch, and to listen."""
        steps = {
            "delivery": self._deliver_all(),
            "bulk delivery": self._deliver_bulk_all(),
            "backlog": self._watch_all(),
            "clock of Redis": self._follow_clock(),
            "republishing": self._republish_all(),
            "notices": self._listen(),
            "dynamic settings": self._watch_settings(),
        }
        self._tasks = [self.background.run_forever(name, step) for name, step in steps.items()]

    async def stop(self) -> None:
        """Finish the batch in hand, then end."""
        self.background.ending = True
        self._stopping.set()
        self._wake()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def deliver(self) -> int:
        """Deliver one batch of single changes; returns how many outbox rows it had."""
        async with self._postgres.connection(self._timeout_ms) as pg, pg.transaction():
            read_at_ms = unix_ms()
            claim = await outbox.claim(pg, self._settings.relay_batch_size)
            if not claim.ids:
                return 0
            entry = await self._hand_over(claim, read_at_ms)
            await outbox.settle(pg, claim.ids, entry_order(entry))
        self.batches += 1
        return len(claim.ids)

    async def deliver_bulk(self) -> int:
        """Deliver some links created in bulk, or one COPY's; returns how many, 0 with none left.

        Chosen codes come first, as somebody may have asked for them before.
        """
        async with self._postgres.connection(self._timeout_ms) as pg, pg.transaction():
            read_at_ms = unix_ms()
            chosen = await outbox.claim(pg, _PIECE, outbox.CHOSEN)
            if chosen.ids:
                entry = await self._hand_over(chosen, read_at_ms)
                await outbox.settle(pg, chosen.ids, entry_order(entry))
                links = len(chosen.ids)
            elif (many := await outbox.claim_many(pg)) is not None:
                links, last = 0, None
                async for piece in outbox.links_of(pg, many, _PIECE):
                    last = entry_order(await self._hand_over(piece, read_at_ms))
                    links += len(piece.records)
                await outbox.settle_many(pg, many, last)
            else:
                return 0
        self.batches += 1
        self.bulk_links += links
        return max(links, 1)  # all of a COPY may have been changed since

    async def watch(self) -> None:
        """Measure the backlog, and see whether Redis still has all that it was given.

        What is remembered is read first: the feed then ends there or later, unless Redis went
        back to an older state.
        """
        async with self._postgres.connection(self._timeout_ms) as pg:
            self.backlog = await outbox.backlog(pg)
            known = await outbox.position(pg)
            await outbox.forget_purged(pg, self._window_s())
        try:
            seen = outbox.Position(
                await servers_of(self._client), entry_order(await self._feed.end())
            )
        except (*REDIS_UNAVAILABLE_ERRORS, FeedUnreadable) as error:
            raise CacheUnavailable(f"Redis is not answering: {error}") from error
        if known is not None and known.servers == seen.servers and known.last <= seen.last:
            if self.backlog.all_told:
                # No row waited, so all that was committed before is on the feed: say so. The
                # redirectors trust what they know of custom codes only while they hear this;
                # generated ones, which alone may still wait in `outbox_many`, prove themselves.
                await self._append([])
            return
        async with self._postgres.connection(self._timeout_ms) as pg, pg.transaction():
            if known is None:
                await outbox.begin_position(pg, seen)
            elif await outbox.order_republish(pg, seen, self._window_s()):
                self.rollbacks += 1
                # One that started anew, empty or with all that it had, is a restart; one that went
                # back, or that somebody emptied, has lost what others may have seen.
                level = logging.INFO if known.restarted_as(seen) else logging.WARNING
                log.log(
                    level,
                    "redis may have lost changes: links changed lately are sent again",
                    remembered=known.last,
                    found=seen.last,
                )

    async def republish(self) -> int:
        """Send the next links of an order to republish; returns how many, 0 without an order."""
        async with self._postgres.connection(self._timeout_ms) as pg, pg.transaction():
            read_at_ms = unix_ms()
            claim = await outbox.next_republish(pg, self._settings.relay_batch_size, read_at_ms)
            if claim is None:
                return 0
            await self._hand_over(claim, read_at_ms)
        self.republished += len(claim.records)
        return len(claim.records)

    def export(self, source: metrics.FromMemory) -> None:
        """Add its figures to what `/metrics` shows."""
        source.gauge(
            "shortlinks_outbox_rows",
            f"Changes of single links that wait for the relay, up to {outbox.BACKLOG_COUNTED}",
            lambda: self.backlog.rows,
        )
        source.gauge(
            "shortlinks_outbox_oldest_seconds",
            "Age of the oldest change of a single link that waits for the relay",
            lambda: self.backlog.oldest_s,
        )
        source.gauge(
            "shortlinks_bulk_waiting_links",
            "Links created in bulk that wait for the relay",
            lambda: self.backlog.bulk_links,
        )
        source.gauge(
            "shortlinks_bulk_oldest_seconds",
            "Age of the oldest of them",
            lambda: self.backlog.bulk_oldest_s,
        )
        source.counter(
            "shortlinks_relay_published",
            "Records offered to Redis, by whether it took them",
            lambda: self.published,
            label="result",
        )
        self.dynamic.export(source)
        self.background.export(source)
        source.counter("shortlinks_relay_batches", "Batches delivered", lambda: self.batches)
        source.counter(
            "shortlinks_relay_bulk_links",
            "Links created in bulk that were delivered",
            lambda: self.bulk_links,
        )
        source.counter(
            "shortlinks_relay_errors",
            "Batches given up, by the part that failed",
            lambda: self.errors,
            label="part",
        )
        source.counter(
            "shortlinks_relay_rollbacks",
            "Times that Redis was found to have gone back or to be another",
            lambda: self.rollbacks,
        )
        source.counter(
            "shortlinks_relay_republished",
            "Links sent to Redis again after that",
            lambda: self.republished,
        )

    async def _hand_over(self, claim: outbox.Claim, read_at_ms: int) -> str:
        # First the records, then the feed: a redirector that hears of a change finds it there.
        results = await self._store.publish_many(claim.records, read_at_ms=read_at_ms)
        for result, count in Counter(results).items():
            self.published[result.name.lower()] += count
        if Published.EXPIRED in results:
            # We were held up, and others may have gone on meanwhile: read them anew.
            raise CacheUnavailable("Redis was given records that were read too long ago.")
        return await self._append(claim.changes)

    async def _append(self, changes: Sequence[Change]) -> str:
        try:
            return await self._feed.append(changes)
        except REDIS_UNAVAILABLE_ERRORS as error:
            raise CacheUnavailable(f"Redis is not answering: {error}") from error

    def _window_s(self) -> int:
        # Whatever state Redis went back to, a record in it that is out of date was written
        # before its link changed, and has not lived its time yet: nothing older need be sent.
        settings = self._settings
        return max(self._longest_ttl_s, settings.cache_tombstone_ttl_s) + MARGIN_S

    def _take(self, settings: RelaySettings) -> None:
        # What was put with a longer life still has it.
        self._longest_ttl_s = max(self._longest_ttl_s, settings.cache_ttl_s)
        self._store.ttls = lifetimes_of(settings)

    async def _watch_settings(self) -> None:
        while not self._stopping.is_set():
            self.dynamic.read()
            await self._pause(EVERY_S)

    async def _deliver_all(self) -> None:
        while not self._stopping.is_set():
            self._woken.clear()
            rows = await self._patiently(self.deliver)
            if rows < self._settings.relay_batch_size:
                await self._wait_for_notice(self._woken)

    async def _deliver_bulk_all(self) -> None:
        while not self._stopping.is_set():
            self._bulk_woken.clear()
            links = await self._patiently(self.deliver_bulk)
            if links:
                await self._pause(links / self._settings.relay_bulk_rate)
            else:
                await self._wait_for_notice(self._bulk_woken)

    def _wake(self) -> None:
        self._woken.set()
        self._bulk_woken.set()

    async def _wait_for_notice(self, woken: asyncio.Event) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(woken.wait(), self._settings.relay_poll_ms / 1000)

    async def _watch_all(self) -> None:
        while not self._stopping.is_set():
            await self._patiently(self.watch)
            await self._pause(SAMPLE_S)

    async def _follow_clock(self) -> None:
        await _first(self._store.follow_clock(), self._stopping.wait())

    async def _republish_all(self) -> None:
        while not self._stopping.is_set():
            sent = await self._patiently(self.republish)
            await self._pause(max(sent / self._settings.relay_republish_rate, 0.01) if sent else 1)

    async def _patiently(self, step: Callable[[], Awaitable[int | None]]) -> int:
        """Run `step` until it succeeds or we stop."""
        shortest, longest = BACKOFF_S
        pause = shortest
        while True:
            try:
                return await step() or 0
            except Unavailable as error:
                self.errors["postgres" if isinstance(error, DatabaseUnavailable) else "redis"] += 1
                log.warning("will try again", step=step.__name__, reason=error.detail)
            except asyncpg.PostgresError:
                # It answered, but would not: a migration's lock, a lost privilege. To end here
                # would only turn a state that somebody can mend into a crash loop.
                self.errors["postgres"] += 1
                log.exception("will try again", step=step.__name__)
            await self._pause(pause * random.uniform(0.5, 1))  # noqa: S311  # jitter, no secret
            if self._stopping.is_set():
                return 0
            pause = min(2 * pause, longest)

    async def _listen(self) -> None:
        url = self._settings.postgres_url.get_secret_value()
        while not self._stopping.is_set():
            lost = asyncio.Event()
            try:
                connection = await asyncpg.connect(
                    url,
                    timeout=LISTEN_TIMEOUT_S,
                    server_settings={"application_name": f"{APPLICATION}-listen"},
                )
            except POSTGRES_RETRYABLE_ERRORS as error:
                # Only a notice is missed: every `relay_poll_ms` the outbox is looked at anyway.
                log.debug("cannot listen", reason=str(error))
                await self._pause(BACKOFF_S[1])
                continue
            try:
                connection.add_termination_listener(lambda *_, event=lost: event.set())
                async with asyncio.timeout(LISTEN_TIMEOUT_S):
                    await connection.add_listener(outbox.CHANNEL, lambda *_: self._wake())
                while not (lost.is_set() or self._stopping.is_set()):
                    await _first(lost.wait(), self._stopping.wait(), asyncio.sleep(LISTEN_CHECK_S))
                    # A host that died, or a firewall that forgot, ends no connection that only
                    # listens: it would be deaf for ever.
                    async with asyncio.timeout(LISTEN_TIMEOUT_S):
                        await connection.execute("SELECT 1")
            except POSTGRES_RETRYABLE_ERRORS as error:
                log.debug("listening ended", reason=str(error))
                await self._pause(BACKOFF_S[0])
            finally:
                connection.terminate()

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)


async def main(settings: RelaySettings) -> None:
    """Run a relay until SIGTERM; raises ConfigurationError when the schema does not fit."""
    postgres = await open_primary(settings, make_breaker(settings), APPLICATION)
    cache = open_cache(
        settings, make_breaker(settings), APPLICATION, timeout_ms=settings.relay_redis_timeout_ms
    )
    store = cache.store
    relay = Relay(postgres, store, cache.feed, cache.client, settings)
    health = Health()
    health.add(postgres.check)
    health.add(store.check)
    registry = metrics.new_registry()
    figures = metrics.FromMemory()
    relay.export(figures)
    registry.register(figures)
    admin = UvicornServer(
        AdminApp(health, registry, "relay"),
        "0.0.0.0",  # noqa: S104  # a server in a container
        settings.relay_admin_port,
        connections=connections.of_admin_settings(settings, registry),
    )

    collect_seldom()

    async def check() -> None:
        await wait_for_schema(partial(check_schema_of, postgres), SCHEMA_WAIT, _log_wait)

    await run(
        health=health,
        lag=LoopLag(registry),
        background=relay.background,
        admin=admin,
        public=None,
        drain_delay_ms=0,  # nobody sends requests here that would have to notice
        drain_timeout_ms=settings.drain_timeout_ms,
        start=[check, relay.start],
        flush=[relay.stop, postgres.close, store.close],
    )


def _log_wait(error: Exception) -> None:
    log.warning("waiting for the database", reason=str(error))


async def _first(*waits: Coroutine[object, object, object]) -> None:
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await end_tasks(tasks)
