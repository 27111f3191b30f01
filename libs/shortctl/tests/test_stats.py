"""`shortctl stats`: totals, a chart and breakdowns on the terminal."""

import asyncio
import csv
import io
import json
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from harness.rollups import Click, store_clicks

from shortcore.clicks.rollups import Kind
from shortctl.stats.chart import draw

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
DAYS = ("--from", "2026-05-01", "--to", "2026-05-10")


@pytest.fixture
def clicks(writer, shortctl):
    """Clicks of the link a, which has the tag t/1, over three days."""
    made = shortctl("links", "create", "https://example.com/", "--code", "a", "--tag", "t/1")
    assert made.exit_code == 0, made.output
    clicks = [
        Click(NOON - timedelta(days=number % 3), visitor=number + 1, values=values)
        for number, values in enumerate(
            [{"country": "DE", "referrer": "\x1b[2J[red]x"}] * 5 + [{"bot": "Bot"}]
        )
    ]

    async def store():
        connection = await asyncpg.connect(writer.postgres_url)
        ids = await connection.fetchrow("SELECT l.id, domain_id FROM links AS l")
        tag = await connection.fetchval("INSERT INTO stats_tags (tag) VALUES ('t/1') RETURNING id")
        for kind, subject in (
            (Kind.LINK, ids["id"]),
            (Kind.DOMAIN, ids["domain_id"]),
            (Kind.TAG, tag),
            (Kind.ALL, 0),
        ):
            await store_clicks(connection, kind, subject, clicks)
        await connection.close()

    asyncio.run(store())


@pytest.mark.usefixtures("clicks")
def test_totals_a_chart_and_breakdowns_are_printed(shortctl):
    subjects = (("go.example/a",), ("https://go.example/a",), ("--domain", "go.example"))
    for subject in (*subjects, ("--tag", "t/1"), ()):
        done = shortctl("stats", *subject, *DAYS, "--compare")
        assert done.exit_code == 0, done.output
        lines = [line.split() for line in done.stdout.splitlines()]
        assert ["clicks", "6", "before:", "0"] in lines
        assert ["visitors", "6", "before:", "0"] in lines
        assert ["DE", "5", "5", "83.3%"] in lines
        assert ["Bot", "1", "1", "16.7%"] in lines
        assert "visits by day" in done.stdout
        assert "\x1b" not in done.stdout
        assert "\ufffd[2J[red]x" in done.stdout
        assert done.stdout.count("\u2588" * 4) >= 3
        assert "browser" not in done.stdout  # nothing is known of it


@pytest.mark.usefixtures("clicks")
def test_json_and_csv_are_those_of_the_api(shortctl):
    done = shortctl("stats", "go.example/a", *DAYS, "--json", "--interval", "week")
    counted = json.loads(done.stdout)
    assert (counted["clicks"], counted["interval"]) == (6, "week")
    done = shortctl("stats", *DAYS, "--csv", "--timezone", "Asia/Kolkata")
    header, first, *_ = csv.reader(io.StringIO(done.stdout))
    assert header == ["period", "at", "clicks", "visits", "visitors"]
    assert first[1] == "2026-05-01T00:00:00+05:30"
    done = shortctl("stats", "--tag", "t/1", *DAYS, "--csv", "--dimension", "country")
    assert done.stdout.splitlines()[1] == "DE,5,5,0.833333"
    done = shortctl("stats", *DAYS, "--dimension", "links", "--limit", "1")
    assert ["https://go.example/a", "6", "6"] in [line.split() for line in done.stdout.splitlines()]


@pytest.mark.usefixtures("clicks")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("go.example/b",), "There is no link b on go.example."),
        (("--domain", "x.example"), "There is no domain x.example"),
        (("--tag", "u"), "There is no such tag."),
        (("go.example/a", "--tag", "t/1"), "only one of"),
        (("--json", "--csv"), "only one of"),
        (("--timezone", "Mars"), "?timezone"),
        (("--dimension", "colour"), "no such dimension"),
        (("nonsense",), "is not a link"),
    ],
)
def test_an_error_is_a_sentence_and_the_exit_code_1(shortctl, arguments, said):
    done = shortctl("stats", *arguments)
    assert done.exit_code == 1
    assert said in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("values", "width", "wanted"),
    [
        ([0, 1, 2], 12, ["2       \u2588\u2588", "     \u2588\u2588 \u2588\u2588"]),
        ([0, 0], 10, ["1", ""]),
        ([8, 1], 4, ["8 \u2588", "  \u2588\u2582"]),
        ([8, 1], 3, ["9 \u2588", "  \u2588"]),
        ([], 4, ["1", ""]),
    ],
)
def test_a_chart_has_a_column_for_each_value_or_group_of_values(values, width, wanted):
    lines = draw(values, width, 2)
    assert [line.rstrip() for line in lines] == wanted
    assert all(len(line) <= width for line in lines)


@pytest.mark.parametrize("number", [1, 7, 30, 365, 1000])
def test_a_chart_fits_its_width_and_shows_the_largest_value_as_a_full_column(number):
    values = [each * 1000 for each in range(number + 1)]
    lines = draw(values, 80)
    assert all(len(line) <= 80 for line in lines)
    assert "\u2588" in lines[0]
