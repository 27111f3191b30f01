"""`make bench-worker`: how many clicks a worker counts per second of its CPU, and how late.

Two kinds of traffic: many links (Zipf over LINKS of them), and one link that gets every click. Each is
measured twice: first the worker finds CLICKS clicks in the streams and counts them as fast as it can.
Then clicks arrive at half of the target rate for SECONDS, in batches as redirectors send them, while the
lag is read four times per second. Clicks have a thousand different user agents, and countries, referrers,
languages and UTM values as often as links in newsletters and posts have them.
"""

import os
import random
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from statistics import median

import redis
from harness.stack import Part
from harness.waiting import until

from bench import machine, report, traffic
from bench.deployment import Deployment, Servers, deploy, generated_codes, open_servers
from bench.report import Ratio
from bench.rounds import progress
from bench.traffic import HOST
from shortcore.clicks.wire import FIELD, Click, ClickBatch, encode_batch, partition_of

RATE = 30_000
"""Target: clicks counted per second of the worker's CPU."""

LAG_S = 2.0
RSS_MIB = 400.0
PARTITIONS = 4
BATCH = 500
COUNTRIES = ("US", "DE", "GB", "FR", "IN", "BR", "JP", "CA", "NL", "ES", "IT", "PL", "SE", "AU")
WEBKIT = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome"
BROWSERS = (
    f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {WEBKIT}/{{}}.0.0.0 Safari/537.36",
    f"Mozilla/5.0 (Linux; Android 10; K) {WEBKIT}/{{}}.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_{} like Mac OS X) AppleWebKit/605.1.15 Version/17.{}",
    "Mozilla/5.0 (X11; Linux x86_64; rv:{}.0) Gecko/20100101 Firefox/{}.0",
    "Mozilla/5.0 (compatible; Googlebot/2.{}; +http://www.google.com/bot.html)",
)
AGENTS = [each.format(number, number) for number in range(200) for each in BROWSERS]
BOT = "Googlebot"


@dataclass
class Measured:
    """One kind of traffic: rates per CPU second of each server, memory, lag."""

    name: str
    per_s: float = 0.0
    per_cpu_s: float = 0.0
    postgres_per_cpu_s: float = 0.0
    rss_mib: float = 0.0
    commits: float = 0.0
    lags: list[float] = field(default_factory=list)


class Clicks:
    """Endless clicks of one redirector, as entries of the streams."""

    def __init__(self, link_ids: Iterator[int], seed: int) -> None:
        self._link_ids = link_ids
        self._choose = random.Random(seed)
        self._source = self._choose.randbytes(12)
        self._numbers = [0] * PARTITIONS
        self._open: list[list[Click]] = [[] for _ in range(PARTITIONS)]

    def entries(self) -> Iterator[tuple[int, bytes]]:
        """Yield a stream and the bytes of a batch."""
        for link_id in self._link_ids:
            stream = partition_of(link_id, PARTITIONS)
            self._open[stream].append(self._click(link_id))
            if len(self._open[stream]) == BATCH:
                self._numbers[stream] += 1
                batch = ClickBatch(self._source, self._numbers[stream], self._open[stream])
                self._open[stream] = []
                yield stream, encode_batch(batch)

    def _click(self, link_id: int) -> Click:
        choose = self._choose
        agent = choose.choices(AGENTS, cum_weights=_AGENT_WEIGHTS)[0]
        chance = choose.random()
        return Click(
            link_id,
            int(time.time() * 1000),
            1 if BOT in agent else 0,
            visitor=choose.getrandbits(17).to_bytes(8, "big"),
            agent=agent,
            country=choose.choice(COUNTRIES),
            region=f"{choose.randrange(16):02}" if chance < 0.5 else "",
            referrer=f"site{int(choose.paretovariate(1)) % 2000}.example" if chance < 0.6 else "",
            language=choose.choice(("en", "en", "de", "fr", "es", "")),
            source="newsletter" if chance < 0.2 else "",
            medium="email" if chance < 0.2 else "",
            campaign=f"week{choose.randrange(52)}" if chance < 0.2 else "",
            host=HOST,
        )


def _cumulative(weights: Iterable[float]) -> list[float]:
    total, sums = 0.0, []
    for weight in weights:
        total += weight
        sums.append(total)
    return sums


_AGENT_WEIGHTS = _cumulative(traffic.zipf(len(AGENTS)))


def zipf_ids(links: int) -> Iterator[int]:
    """Yield ids of links by Zipf's law; the popular ones are spread over all streams."""
    choose = random.Random(2)
    ids = choose.sample(range(links), links)
    weights = _cumulative(traffic.zipf(links))
    while True:
        yield from choose.choices(ids, cum_weights=weights, k=10_000)


def one_id() -> Iterator[int]:
    """Yield the id of the only link that is followed."""
    while True:
        yield 1


def main() -> int:
    """Measure and print; returns 1 if a target is missed."""
    links = int(os.environ.get("LINKS") or 1_000_000)
    clicks = int(os.environ.get("CLICKS") or 900_000)
    seconds = float(os.environ.get("SECONDS") or 20)
    command = f"make bench-worker LINKS={links} CLICKS={clicks} SECONDS={seconds:g}"
    conditions = machine.conditions(command)
    found = []
    with open_servers() as servers:
        conditions |= servers.settings()
        cases = {f"Zipf over {links:,} links": zipf_ids(links), "one link": one_id()}
        for number, (name, ids) in enumerate(cases.items()):
            with deploy(servers, f"case{number}", number) as deployment:
                deployment.fill(generated_codes(links))
                progress(f"{name}: links added")
                found.append(
                    _measure(name, servers, deployment, Clicks(ids, number), clicks, seconds)
                )
    ratios = _ratios(found)
    tables = {"Worker": _table(found), "Targets": report.ratio_table(ratios)}
    report.print_result(tables, conditions)
    return 0 if all(each.met is not False for each in ratios) else 1


def _measure(
    name: str, servers: Servers, deployment: Deployment, source: Clicks, clicks: int, seconds: float
) -> Measured:
    measured = Measured(name)
    entries = source.entries()
    with redis.Redis.from_url(deployment.stack.redis_url) as client:
        _add(client, islice(entries, clicks // BATCH))
        progress(f"{name}: clicks in the streams")
        worker = deployment.stack.worker(
            CLICKS_PARTITIONS=str(PARTITIONS), ADMIN_CONNECTIONS_MAX="10"
        )
        machine.pin(worker.child.pid, machine.SERVER_CORES)
        _count_all(measured, worker, servers, clicks)
        progress(f"{name}: {measured.per_cpu_s:,.0f} clicks per CPU second")
        arriving = list(islice(entries, int(RATE / 2 * seconds) // BATCH))
        _arrive(measured, worker, client, arriving, seconds)
        progress(f"{name}: lag {max(measured.lags):.2f} s")
    worker.child.stop()
    return measured


def _count_all(measured: Measured, worker: Part, servers: Servers, clicks: int) -> None:
    """Measure from a tenth of the clicks, when caches are warm, to nine tenths."""
    samples = []
    for share in (0.1, 0.9):
        goal = clicks * share
        until(lambda goal=goal: _counted(worker) >= goal, "clicks are counted", 600, every_s=0.02)
        samples.append(
            (
                _counted(worker),
                time.monotonic(),
                machine.cpu_seconds(worker.child.pid),
                machine.cpu_seconds(servers.postgres.pid),
                worker.metric("shortlinks_worker_commits_total"),
            )
        )
    counted, wall_s, cpu_s, postgres_s, commits = (
        after - before for before, after in zip(*samples, strict=True)
    )
    measured.per_s = counted / wall_s
    measured.per_cpu_s = counted / cpu_s
    measured.postgres_per_cpu_s = counted / postgres_s
    measured.commits = counted / commits
    measured.rss_mib = machine.rss_mib(worker.child.pid)
    until(lambda: _counted(worker) >= clicks // BATCH * BATCH, "all clicks are counted", 600)


def _arrive(
    measured: Measured,
    worker: Part,
    client: "redis.Redis",
    entries: Sequence[tuple[int, bytes]],
    seconds: float,
) -> None:
    start = time.monotonic()

    def send() -> None:
        for number, entry in enumerate(entries):
            time.sleep(max(0.0, start + number * seconds / len(entries) - time.monotonic()))
            _add(client, [entry])

    sending = threading.Thread(target=send)
    sending.start()
    while sending.is_alive():
        measured.lags.append(_lag(worker))
        measured.rss_mib = max(measured.rss_mib, machine.rss_mib(worker.child.pid))
        time.sleep(0.25)
    sending.join()


def _add(client: "redis.Redis", entries: Iterable[tuple[int, bytes]]) -> None:
    for stream, data in entries:
        client.xadd(f"bench:clicks:{{{stream}}}", {FIELD: data})


def _counted(worker: Part) -> float:
    return worker.metric("shortlinks_worker_clicks_total")


def _lag(worker: Part) -> float:
    text = worker.ask("/metrics")[1]
    name = "shortlinks_worker_lag_seconds{"
    return max(float(line.split()[1]) for line in text.splitlines() if line.startswith(name))


def _ratios(found: Sequence[Measured]) -> list[Ratio]:
    ratios = []
    for each in found:
        ratios += [
            Ratio(f"{each.name}: clicks per CPU second", [each.per_cpu_s], RATE),
            Ratio(f"{each.name}: lag, s", [max(each.lags)], LAG_S, at_least=False),
            Ratio(f"{each.name}: RSS, MiB", [each.rss_mib], RSS_MIB, at_least=False),
        ]
    return ratios


def _table(found: Sequence[Measured]) -> str:
    head = ("traffic", "clicks per s", "per CPU s", "per CPU s of PostgreSQL", "clicks per commit",
            f"lag at {RATE // 2:,}/s, s: p50", "max", "RSS MiB")  # fmt: skip
    rows = [
        (
            each.name, f"{each.per_s:,.0f}", f"{each.per_cpu_s:,.0f}",
            f"{each.postgres_per_cpu_s:,.0f}", f"{each.commits:,.0f}", f"{median(each.lags):.2f}",
            f"{max(each.lags):.2f}", f"{each.rss_mib:,.0f}",
        )
        for each in found
    ]  # fmt: skip
    return report.table(head, rows)


if __name__ == "__main__":
    sys.exit(main())
