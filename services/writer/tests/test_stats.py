"""Statistics of links, domains, tags and all links: series, breakdowns and top links."""

import asyncio
import csv
import io
import random
import time
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from urllib.parse import quote
from zoneinfo import ZoneInfo

import asyncpg
import msgspec
import pytest
from harness.rollups import Click, store_clicks
from harness.waiting import until_async

from shortcore.clicks.rollups import DIMENSIONS, Kind
from shortcore.errors import Unavailable
from writer.stats import service
from writer.stats.breakdowns import Breakdown
from writer.stats.repository import BreakdownRow

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)  # a Monday
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
SUBJECTS = ("/links/go.test/a", "/domains/go.test", "/tags/t", "")
ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
)


@pytest.fixture
async def store(api, database_url):
    """Store clicks of the link a, which has the tag t, or of another subject."""
    link = await api.create(code="a", tags=["t"])
    connection = await asyncpg.connect(database_url)
    link_id = await connection.fetchval("SELECT id FROM links")
    domain_id = await connection.fetchval("SELECT id FROM domains")
    tag_id = await connection.fetchval("INSERT INTO stats_tags (tag) VALUES ('t') RETURNING id")
    subjects = {Kind.LINK: link_id, Kind.DOMAIN: domain_id, Kind.TAG: tag_id, Kind.ALL: 0}

    async def store(*clicks, kind=Kind.LINK, subject=None):
        await store_clicks(connection, kind, subject or subjects[kind], clicks)

    assert link["code"] == "a"
    yield store
    await connection.close()


async def ask(api, path, status=200, **params):
    params = {name.rstrip("_"): value for name, value in params.items()}
    answer = await api.client.get(f"/api/v1{path}", params=params)
    assert answer.status_code == status, answer.text
    return answer.json()


async def refused(api, path, **params):
    """Return the pointer and the rule of the only error."""
    (error,) = (await ask(api, path, 422, **params))["errors"]
    return error["pointer"], error["rule"]


def numbers(counted):
    return counted["clicks"], counted["visits"], counted["visitors"]


@pytest.mark.parametrize(
    ("kind", "path"), [*zip((Kind.LINK, Kind.DOMAIN, Kind.TAG, Kind.ALL), SUBJECTS, strict=True)]
)
async def test_each_subject_has_its_own_statistics(api, store, kind, path):
    others = {Kind.LINK, Kind.DOMAIN, Kind.TAG, Kind.ALL} - {kind}
    for other in others:
        await store(Click(NOON), kind=other)
    await store(
        Click(NOON, visitor=1, values={"country": "DE"}),
        Click(NOON + HOUR, visitor=1, stream=1),
        Click(NOON + HOUR, visit=False),
        kind=kind,
    )
    counted = await ask(api, f"{path}/stats", from_="2026-05-03", to="2026-05-05")
    assert counted == {
        "from": "2026-05-03T00:00:00Z",
        "to": "2026-05-06T00:00:00Z",
        "timezone": "UTC",
        "interval": "day",
        "clicks": 3,
        "visits": 2,
        "visitors": 1,
        "series": [
            {"at": "2026-05-03T00:00:00Z", "clicks": 0, "visits": 0, "visitors": 0},
            {"at": "2026-05-04T00:00:00Z", "clicks": 3, "visits": 2, "visitors": 1},
            {"at": "2026-05-05T00:00:00Z", "clicks": 0, "visits": 0, "visitors": 0},
        ],
        "previous": None,
    }
    countries = await ask(api, f"{path}/stats/country", from_="2026-05-04", to="2026-05-04")
    assert countries == {
        "from": "2026-05-04T00:00:00Z",
        "to": "2026-05-05T00:00:00Z",
        "dimension": "country",
        "by": "visits",
        "clicks": 3,
        "visits": 2,
        "items": [
            {"value": None, "clicks": 2, "visits": 1, "share": 0.5},
            {"value": "DE", "clicks": 1, "visits": 1, "share": 0.5},
        ],
        "next": None,
    }


async def test_a_subject_without_clicks_has_zeros_and_an_unknown_one_is_not_found(api):
    await api.create(code="a", tags=["t", "x/y"])
    for path in (*SUBJECTS, "/tags/x%2Fy"):
        counted = await ask(api, f"{path}/stats", from_="2026-05-04", to="2026-05-04")
        assert numbers(counted) == (0, 0, 0)
        assert [numbers(point) for point in counted["series"]] == [(0, 0, None)] * 24
        assert (await ask(api, f"{path}/stats/os"))["items"] == []
    unknown = {
        "/links/go.test/b": "link-not-found",
        "/links/other.test/a": "link-not-found",
        "/links/go.test/-%20": "link-not-found",
        "/domains/other.test": "domain-not-found",
        "/domains/%20": "domain-not-found",
        "/tags/u": "tag-not-found",
        "/tags/x": "tag-not-found",
        "/tags/%00": "tag-not-found",
        f"/tags/{'u' * 65}": "tag-not-found",
    }
    for path, kind in unknown.items():
        for rest in ("", "/os", "/links"):
            if not (rest == "/links" and "/links/" in path):
                problem = await ask(api, f"{path}/stats{rest}", 404)
                assert problem["type"].endswith(f":{kind}"), (path, rest)


async def test_a_deleted_link_has_statistics(api, store):
    await store(Click(NOON))
    await api.client.delete("/api/v1/links/go.test/a")
    day = {"from_": "2026-05-04", "to": "2026-05-04"}
    assert (await ask(api, "/links/go.test/a/stats", **day))["clicks"] == 1


async def test_by_default_the_period_is_the_last_30_days_up_to_the_end_of_today(api):
    api.clock.advance_to(datetime(2040, 3, 31, 23, 30, tzinfo=UTC))
    counted = await ask(api, "/stats", timezone="Europe/Berlin")
    assert (counted["from"], counted["to"]) == (
        "2040-03-03T00:00:00+01:00",
        "2040-04-02T00:00:00+02:00",
    )
    assert len(counted["series"]) == 30
    only_from = await ask(api, "/stats", from_="2040-03-31")
    assert (only_from["interval"], len(only_from["series"])) == ("hour", 24)
    only_to = await ask(api, "/stats", to="2040-01-31T12:00:00+05:30")
    assert (only_to["from"], only_to["to"]) == ("2040-01-02T00:00:00Z", "2040-01-31T06:30:00Z")
    years = await ask(api, "/stats", from_="2035-01-15", to="2040-01-31")
    assert (years["interval"], len(years["series"])) == ("month", 61)


async def test_weeks_begin_on_monday_and_the_first_and_last_interval_are_cut(api):
    counted = await ask(api, "/stats", from_="2026-05-06", to="2026-05-19", interval="week")
    assert [point["at"][:10] for point in counted["series"]] == [
        "2026-05-06",
        "2026-05-11",
        "2026-05-18",
    ]
    counted = await ask(api, "/stats", from_="2026-01-31", to="2026-03-01", interval="month")
    assert [point["at"][:10] for point in counted["series"]] == [
        "2026-01-31",
        "2026-02-01",
        "2026-03-01",
    ]


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", "2026-03-29", 23),
        ("Europe/Berlin", "2026-10-25", 25),
        ("America/New_York", "2026-03-08", 23),
        ("America/New_York", "2026-11-01", 25),
        ("America/Havana", "2026-03-08", 23),
        ("Asia/Kolkata", "2026-03-29", 24),
        ("Asia/Kathmandu", "2026-03-29", 24),
    ],
)
async def test_a_day_with_a_change_of_the_clock_has_23_or_25_hours(api, store, zone, day, hours):
    midnight = datetime.combine(date.fromisoformat(day), datetime.min.time(), ZoneInfo(zone))
    first = midnight.astimezone(UTC)
    clicks = [Click(first + number * timedelta(minutes=15)) for number in range(-4, 4 * hours + 4)]
    await store(*clicks)
    path, asked = "/links/go.test/a/stats", {"from_": day, "to": day, "timezone": zone}
    counted = await ask(api, path, **asked, interval="hour")
    assert [point["clicks"] for point in counted["series"]] == [4] * hours
    assert len({point["at"] for point in counted["series"]}) == hours
    (whole,) = (await ask(api, path, **asked, interval="day"))["series"]
    assert whole["clicks"] == counted["clicks"] == 4 * hours


async def test_a_change_of_the_clock_by_half_an_hour_makes_one_short_hour(api, store):
    first = datetime(2026, 4, 4, 13, tzinfo=UTC)  # 00:00 in Lord Howe
    await store(*(Click(first + number * timedelta(minutes=15)) for number in range(98)))
    day = {"from_": "2026-04-05", "to": "2026-04-05", "timezone": "Australia/Lord_Howe"}
    hours = (await ask(api, "/links/go.test/a/stats", **day, interval="hour"))["series"]
    assert [point["clicks"] for point in hours] == [4, 4, 2, *[4] * 22]
    assert [point["at"][11:] for point in hours[1:4]] == [
        "01:00:00+11:00",
        "01:30:00+10:30",
        "02:00:00+10:30",
    ]


@pytest.mark.parametrize(
    ("period", "zone", "before"),
    [
        (("2026-03-01", "2026-03-31"), "Europe/Berlin", "2026-02-01T00:00:00+01:00"),
        (("2026-01-01", "2026-12-31"), "UTC", "2025-01-01T00:00:00Z"),
        (("2026-03-29", "2026-03-30"), "Europe/Berlin", "2026-03-27T00:00:00+01:00"),
        (("2026-03-30", "2026-03-30"), "Europe/Berlin", "2026-03-29T00:00:00+01:00"),
        (("2026-02-01", "2026-03-30"), "UTC", "2025-12-05T00:00:00Z"),
        (("2026-05-04T12:00:00Z", "2026-05-04T18:15:00Z"), "UTC", "2026-05-04T05:45:00Z"),
    ],
)
async def test_the_period_before_is_as_many_months_days_or_hours_long(api, period, zone, before):
    asked = {"from_": period[0], "to": period[1], "timezone": zone, "compare": "previous"}
    counted = await ask(api, "/stats", **asked)
    assert counted["previous"]["from"] == before
    assert counted["previous"]["to"] == counted["from"]


async def test_the_period_before_is_counted_by_the_same_interval(api, store):
    await store(Click(NOON), Click(NOON - DAY), Click(NOON - DAY, visitor=3))
    day = {"from_": "2026-05-04", "to": "2026-05-04", "interval": "hour"}
    counted = await ask(api, "/links/go.test/a/stats", **day, compare="previous")
    assert numbers(counted) == (1, 1, 0)
    assert numbers(counted["previous"]) == (2, 2, 1)
    assert [point["clicks"] for point in counted["previous"]["series"]].index(2) == 12


async def test_a_day_counts_its_visitors_for_the_period_with_its_noon(api, store):
    await store(Click(NOON - 11 * HOUR, visitor=1), Click(NOON, visitor=2))
    path = "/links/go.test/a/stats"

    async def visitors(start, end):
        period = {"from_": start.isoformat(), "to": end.isoformat()}
        return (await ask(api, path, **period))["visitors"]

    assert await visitors(NOON - 12 * HOUR, NOON) is None
    assert await visitors(NOON, NOON + HOUR) == 2
    assert await visitors(NOON - DAY, NOON) == 0
    assert await visitors(NOON - DAY, NOON + HOUR) == 2
    assert await refused(
        api, f"{path}/os", from_="2026-05-04T00:00:00Z", to="2026-05-04T12:00:00Z"
    ) == ("?from", "range")


@pytest.mark.parametrize(
    ("params", "pointer", "rule"),
    [
        ({"from_": "2026-02-30"}, "?from", "instant"),
        ({"from_": "yesterday"}, "?from", "instant"),
        ({"from_": "2026-05-04T12:00:00"}, "?from", "instant"),
        ({"to": "2026-05-04T12:10:00Z"}, "?to", "step"),
        ({"to": "2026-05-04T12:15:00.001Z"}, "?to", "step"),
        ({"from_": "1999-12-31"}, "?from", "range"),
        ({"to": "2200-01-01T00:00:00Z"}, "?to", "range"),
        ({"from_": "2026-05-05", "to": "2026-05-04"}, "?from", "order"),
        ({"from_": "2026-05-05T00:00:00Z", "to": "2026-05-05T00:00:00Z"}, "?from", "order"),
        ({"from_": "2010-01-01", "to": "2026-05-05"}, "?from", "range"),
        ({"timezone": "Mars/Olympus"}, "?timezone", "choice"),
        ({"timezone": "../../etc/passwd"}, "?timezone", "choice"),
        ({"timezone": "America"}, "?timezone", "choice"),
        ({"timezone": "europe/berlin"}, "?timezone", "choice"),
        ({"interval": "minute"}, "?interval", "choice"),
        ({"from_": "2026-01-01", "to": "2026-05-05", "interval": "hour"}, "?interval", "range"),
        ({"from_": "2020-01-01", "to": "2026-05-05", "interval": "day"}, "?interval", "range"),
        ({"compare": "next"}, "?compare", "choice"),
        ({"form": "2026-05-04"}, "?form", "unknown-field"),
        ({"from_": ["2026-05-04", "2026-05-05"]}, None, None),
    ],
)
async def test_an_invalid_period_is_refused_by_its_rule(api, params, pointer, rule):
    if pointer is None:  # the framework takes the last of several values
        await ask(api, "/stats", **params)
    else:
        assert await refused(api, "/stats", **params) == (pointer, rule)


@pytest.mark.parametrize(
    ("path", "params", "pointer", "rule"),
    [
        ("/stats/colour", {}, "dimension", "choice"),
        ("/stats/os", {"limit": 101}, "?limit", "range"),
        ("/stats/os", {"by": "visitors"}, "?by", "choice"),
        ("/stats/os", {"interval": "day"}, "?interval", "unknown-field"),
        ("/stats/os", {"cursor": "x"}, "?cursor", "cursor"),
        ("/stats/os", {"cursor": "A" * 5000}, "?cursor", "cursor"),
        ("/stats/links", {"limit": 0}, "?limit", "range"),
        ("/stats/links", {"cursor": "x"}, "?cursor", "unknown-field"),
    ],
)
async def test_an_invalid_breakdown_is_refused_by_its_rule(api, path, params, pointer, rule):
    assert await refused(api, path, **params) == (pointer, rule)


async def test_numbers_are_those_of_a_count_over_all_clicks(api, store):
    choose = random.Random(4)
    begin = datetime(2026, 3, 20, tzinfo=UTC)  # the clocks change in Berlin and on Lord Howe
    clicks = [
        Click(
            begin + timedelta(minutes=choose.randrange(24 * 24 * 60)),
            visit=choose.random() < 0.8,
            visitor=choose.randrange(40),
            stream=choose.randrange(3),
            values={"os": choose.choice(["", "iOS", "Linux"]), "country": choose.choice("ABCDEF")},
        )
        for _ in range(2000)
    ]
    await store(*clicks)
    path = "/links/go.test/a/stats"
    for number in range(36):
        zone = ZoneInfo(ZONES[number % len(ZONES)])
        days = sorted(choose.sample(range(24), 2))
        first, last = (begin.date() + timedelta(days=day) for day in days)
        interval = choose.choice(["hour", "day", "week", "month"])
        period = {"from_": str(first), "to": str(last), "timezone": zone.key}
        counted = await ask(api, path, **period, interval=interval)
        start = datetime.combine(first, datetime.min.time(), zone)
        end = datetime.combine(last + DAY, datetime.min.time(), zone)
        inside = [click for click in clicks if start <= click.at < end]
        assert counted["clicks"] == len(inside)
        assert counted["visits"] == sum(click.visit for click in inside)
        points = [datetime.fromisoformat(point["at"]).timestamp() for point in counted["series"]]
        for counter, of in (("clicks", inside), ("visits", [c for c in inside if c.visit])):
            wanted = Counter(max(at for at in points if at <= c.at.timestamp()) for c in of)
            assert [point[counter] for point in counted["series"]] == [
                wanted[at] for at in points
            ], (period, interval)
        noons = {
            click.day for click in clicks if start <= click.at.replace(hour=12, minute=0) < end
        }
        visitors = {(c.day, c.visitor) for c in clicks if c.visit and c.visitor and c.day in noons}
        assert counted["visitors"] == len(visitors)
        broken = await ask(api, f"{path}/os", **period)
        of_days = [click for click in clicks if click.day in noons]
        assert {(v["value"] or "", v["clicks"]) for v in broken["items"]} == set(
            Counter(click.values["os"] for click in of_days).items()
        )
        assert broken["clicks"] == len(of_days)


async def test_the_header_link_leads_to_the_pages_of_any_tag(api, store):
    tags = ["\u6771", "\u00e9\x9d\U000be49f", "a>b", 'a"b', "c#", "a?b", "1%25", "a/b", "a\\b"]
    await api.create(code="b", tags=tags)
    for tag in tags:
        tag_id = await api.fetch("INSERT INTO stats_tags (tag) VALUES ($1) RETURNING id", tag)
        clicks = [Click(NOON, values={"country": country}) for country in ("DE", "FR")]
        await store(*clicks, kind=Kind.TAG, subject=tag_id)
        path = f"/api/v1/tags/{quote(tag, safe='')}/stats/country"
        answer = await api.client.get(f"{path}?from=2026-05-04&to=2026-05-04&limit=1")
        assert answer.status_code == 200, (tag, answer.text)
        assert answer.headers["link"].isascii(), tag
        for rel, country in (("first", "DE"), ("next", "FR")):
            linked = await api.client.get(answer.links[rel]["url"])
            assert linked.status_code == 200, (tag, rel, linked.text)
            assert [each["value"] for each in linked.json()["items"]] == [country], (tag, rel)


async def test_the_pages_of_a_breakdown_have_every_value_once(api, store):
    clicks = [
        Click(NOON, values={"referrer": f"{number % 37}.example"}, visit=number % 3 > 0)
        for number in range(400)
    ]
    await store(*clicks, Click(NOON), Click(NOON - DAY, values={"referrer": "(other)"}))
    period = {"from": "2026-05-03", "to": "2026-05-04", "by": "clicks", "limit": "7"}
    url = "/api/v1/links/go.test/a/stats/referrer"
    answer = await api.client.get(url, params=period)
    values, sizes = [], []
    while True:
        assert answer.status_code == 200, answer.text
        page = answer.json()
        values += page["items"]
        sizes.append(len(page["items"]))
        if page["next"] is None:
            break
        answer = await api.client.get(answer.links["next"]["url"])
    assert sizes == [7, 7, 7, 7, 7, 4]
    assert {each["value"] for each in values} == {
        None,
        "(other)",
        *(f"{number}.example" for number in range(37)),
    }
    order = [(-each["clicks"], -each["visits"], each["value"] or "") for each in values]
    assert order == sorted(order)
    assert sum(each["clicks"] for each in values) == page["clicks"] == 402
    assert sum(each["share"] for each in values) == pytest.approx(1, abs=1e-4)
    other = await api.client.get(url, params={"cursor": answer.url.params["cursor"]})
    assert other.status_code == 422


async def test_bots_are_ordered_by_their_clicks(api, store):
    bots = [Click(NOON, visit=False, values={"bot": name}) for name in ("A", "B", "B")]
    await store(*bots, *[Click(NOON)] * 4)
    period = {"from_": "2026-05-04", "to": "2026-05-04"}
    found = await ask(api, "/links/go.test/a/stats/bot", **period)
    assert [(each["value"], each["clicks"], each["visits"]) for each in found["items"]] == [
        (None, 4, 4),
        ("B", 2, 0),
        ("A", 1, 0),
    ]
    assert found["by"] == "clicks"


async def test_the_rarest_of_very_many_values_are_added_up(monkeypatch):
    monkeypatch.setattr("writer.stats.breakdowns.MAX_VALUES", 10)
    monkeypatch.setattr("writer.stats.breakdowns._KEPT_VALUES", 5)
    breakdown = Breakdown("country", "visits")
    breakdown._add({f"v{number}": [number, number] for number in range(8)})
    breakdown._add({f"w{number}": [number, 0] for number in range(8)})
    breakdown.clicks, breakdown.visits = 60, 30
    found = breakdown.page(None, 100)
    assert [(each.value, each.clicks, each.visits) for each in found] == [
        ("v7", 7, 7),
        ("v6", 6, 6),
        ("v5", 5, 5),
        ("v4", 4, 4),
        ("(other)", 31, 3),
        ("v3", 3, 3),
        ("", 4, 2),
    ]
    assert sum(each.clicks for each in found) == 60


async def test_top_links_are_those_of_the_domain_or_with_the_tag(api, store):
    await api.client.post("/api/v1/domains", json={"host": "two.test"})
    for code, fields in (("b", {"tags": ["t"]}), ("c", {"domain": "two.test"}), ("d", {})):
        await api.create(code=code, title=f"T {code}", **fields)
    ids = {code: await api.fetch("SELECT id FROM links WHERE code = $1", code) for code in "abcd"}
    for number, code in enumerate("abcd", 1):
        people = [Click(NOON, stream=each % 2) for each in range(number)]
        bots = [Click(NOON, visit=False)] * (10 - 2 * number)
        await store(*people, *bots, Click(NOON - DAY), subject=ids[code])
    day = {"from_": "2026-05-04", "to": "2026-05-04"}

    async def top(path, **params):
        found = await ask(api, f"{path}/stats/links", **day, **params)
        assert (found["from"], found["to"]) == ("2026-05-04T00:00:00Z", "2026-05-05T00:00:00Z")
        return "".join(each["code"] for each in found["items"])

    assert await top("") == "dcba"
    assert await top("", limit=2) == "dc"
    assert await top("", by="clicks") == "abcd"
    assert await top("/domains/go.test") == "dba"
    assert await top("/domains/TWO.test") == "c"
    assert await top("/tags/t") == "ba"
    (first, *_) = (await ask(api, "/stats/links", **day))["items"]
    assert first == {
        "domain": "go.test",
        "code": "d",
        "short_url": "https://go.test/d",
        "title": "T d",
        "clicks": 6,
        "visits": 4,
        "self": "/api/v1/links/go.test/d",
    }


def rows_of(answer):
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["vary"] == "Accept"
    assert answer.text.endswith("\r\n")
    return list(csv.reader(io.StringIO(answer.text, newline="")))


async def test_statistics_are_sent_as_csv_if_the_client_prefers_it(api, store):
    values = ("=1+1", "+x", "-x", "@x", 'a,"b"\r\nc', "\tx", "plain")
    await store(*(Click(NOON, visitor=1, values={"source": value}) for value in values))
    await api.client.patch("/api/v1/links/go.test/a", json={"title": "=HYPERLINK(1)"})
    period = {"from": "2026-05-04", "to": "2026-05-04", "timezone": "Asia/Kolkata"}
    wanted = {"accept": "text/csv"}

    async def get(path, **params):
        return rows_of(
            await api.client.get(f"/api/v1{path}", params={**period, **params}, headers=wanted)
        )

    series = await get("/links/go.test/a/stats", interval="day", compare="previous")
    assert series == [
        ["period", "at", "clicks", "visits", "visitors"],
        ["current", "2026-05-04T00:00:00+05:30", "7", "7", "1"],
        ["previous", "2026-05-03T00:00:00+05:30", "0", "0", "0"],
    ]
    header, *sources = await get("/links/go.test/a/stats/source")
    assert header == ["source", "clicks", "visits", "share"]
    assert {row[0] for row in sources} == {
        "'=1+1",
        "'+x",
        "'-x",
        "'@x",
        'a,"b"\r\nc',
        "'\tx",
        "plain",
    }
    _, (short_url, *_, title, clicks, visits) = await get("/stats/links")
    assert (short_url, title, clicks, visits) == ("https://go.test/a", "'=HYPERLINK(1)", "7", "7")
    pages = await api.client.get(
        "/api/v1/links/go.test/a/stats/source", params=period | {"limit": 2}, headers=wanted
    )
    assert len(rows_of(pages)) == 3
    assert "next" in pages.links


@pytest.mark.parametrize(
    ("accept", "csv_preferred"),
    [
        ("text/csv", True),
        ("TEXT/CSV; header=present", True),
        ("text/csv, */*", True),
        ("text/*", True),
        ("text/csv;q=0.9, application/json;q=0.1", True),
        ("text/csv, application/json", False),
        ("text/csv;q=0.5, application/json", False),
        ("text/csv;q=0", False),
        ("text/csv;q=x", False),
        ("text/html, */*;q=0.8", False),
        ("*/*", False),
        ("", False),
        (",;,=", False),
    ],
)
async def test_json_is_sent_unless_csv_is_preferred(api, accept, csv_preferred):
    answer = await api.client.get("/api/v1/stats", headers={"accept": accept})
    assert answer.headers["content-type"].startswith("text/csv") is csv_preferred


async def test_few_statistics_are_computed_at_a_time_and_few_wait(api, monkeypatch):
    monkeypatch.setattr(service, "MAX_WAITING", 2)
    statistics = api.container.stats
    running = [statistics._turn() for _ in range(service.MAX_RUNNING)]
    for each in running:
        await each.__aenter__()
    waiting = [asyncio.create_task(ask(api, "/stats")) for _ in range(2)]
    await until_async(lambda: statistics._waiting == 2, "two requests wait")
    problem = await ask(api, "/stats", 503)
    assert problem["type"].endswith(":unavailable")
    for each in running:
        await each.__aexit__(None, None, None)
    assert [numbers(each) for each in await asyncio.gather(*waiting)] == [(0, 0, 0)] * 2
    assert statistics._waiting == 0


async def test_statistics_that_take_too_long_are_given_up(api, store, monkeypatch):
    monkeypatch.setattr(service, "MAX_SECONDS", -1.0)
    problem = await ask(api, "/stats", 503)
    assert problem["detail"] == "These statistics take too long; choose a shorter period."
    with pytest.raises(Unavailable, match="shorter"):
        await api.container.stats.breakdown(service.repository.ALL, range(9), "os", "visits")


async def test_adding_up_breakdowns_lets_other_tasks_run(api):
    """The CPU time of each piece of work in the event loop is bounded; lag would be noise here."""
    values = {f"value {number}": [number, number] for number in range(500)}
    encoded = msgspec.msgpack.encode([values] * len(DIMENSIONS))
    rows = [BreakdownRow(1, 1, encoded)] * 100
    longest, last = 0.0, time.thread_time()
    stopped = False

    async def watch():
        nonlocal longest, last
        while not stopped:
            await asyncio.sleep(0)
            now = time.thread_time()
            longest, last = max(longest, now - last), now

    watching = asyncio.create_task(watch())
    await Breakdown("os", "visits").add(rows)
    stopped = True
    await watching
    assert longest < 0.05
