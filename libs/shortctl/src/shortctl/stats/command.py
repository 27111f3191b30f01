"""The command `shortctl stats`, which uses the API."""

import shutil
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer

from shortctl.api.addresses import path_of, quote_host
from shortctl.api.client import Key, Refused, Url, fail_with, open_api, request
from shortctl.api.connection import Connection, NoResponse
from shortctl.stats.chart import draw
from shortctl.terminal import console, fail, print_result

SHOWN = ("country", "referrer", "browser", "device", "bot")
"""The breakdowns that are printed without `--dimension`."""

_TOP = 5
_MIN_WIDTH, _MAX_WIDTH = 40, 160

Link = Annotated[
    str | None, typer.Argument(help="The link, as host/code or as its short URL; all if absent.")
]
Domain = Annotated[str | None, typer.Option(help="Count the links of this domain.")]
Tag = Annotated[str | None, typer.Option(help="Count the links that had this tag.")]
From = Annotated[
    str | None,
    typer.Option("--from", help="Begin: a date, or a time with an offset; by default, 30 days."),
]
To = Annotated[
    str | None, typer.Option(help="End: a date, or a time with an offset; by default, today.")
]
Interval = Annotated[str | None, typer.Option(help="hour, day, week or month.")]
Timezone = Annotated[
    str | None, typer.Option(help="IANA time zone, such as Europe/Berlin; by default, UTC.")
]
Compare = Annotated[
    bool, typer.Option("--compare", help="Compare with the period of the same length before.")
]
Dimension = Annotated[
    str | None,
    typer.Option(
        help="Print only this breakdown, such as country or referrer; `links` for the top links."
    ),
]
Limit = Annotated[int, typer.Option(min=1, max=100, help="Maximum number of values or links.")]
Json = Annotated[bool, typer.Option("--json", help="Print the JSON response of the API.")]
Csv = Annotated[bool, typer.Option("--csv", help="Print the CSV response of the API.")]


def stats(
    link: Link = None,
    domain: Domain = None,
    tag: Tag = None,
    from_: From = None,
    to: To = None,
    interval: Interval = None,
    timezone: Timezone = None,
    compare: Compare = False,
    dimension: Dimension = None,
    limit: Limit = 10,
    json: Json = False,
    csv: Csv = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Print the statistics of a link, a domain, a tag, or all links."""
    if json and csv:
        fail("Set only one of --json and --csv.")
    path = _path(link, domain, tag)
    period = _given(**{"from": from_, "to": to, "timezone": timezone})
    if dimension is None:
        query = period | _given(interval=interval, compare="previous" if compare else None)
    else:
        path += f"/{quote(dimension, safe='')}"
        query = period | {"limit": str(limit)}
    with open_api(url, key) as server:
        try:
            if json or csv:
                accept = "text/csv" if csv else "application/json"
                print_result(_get(server, path, query, accept).decode().rstrip("\r\n"))
            elif dimension is None:
                _print_all(server, path, query, period)
            else:
                _print_items(dimension, _read(server, path, query))
        except (Refused, NoResponse) as error:
            fail_with(error)


def _path(link: str | None, domain: str | None, tag: str | None) -> str:
    if sum(each is not None for each in (link, domain, tag)) > 1:
        fail("Name only one of a link, --domain and --tag.")
    if link is not None:
        return f"{path_of(link)}/stats"
    if domain is not None:
        return f"/api/v1/domains/{quote_host(domain)}/stats"
    return "/api/v1/stats" if tag is None else f"/api/v1/tags/{quote(tag, safe='')}/stats"


def _get(server: Connection, path: str, query: Mapping[str, str], accept: str) -> bytes:
    return request(server, "GET", f"{path}?{urlencode(query)}", headers={"accept": accept}).content


def _read(server: Connection, path: str, query: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = request(server, "GET", f"{path}?{urlencode(query)}").json()
    return found


def _print_all(
    server: Connection, path: str, query: Mapping[str, str], period: Mapping[str, str]
) -> None:
    counted = _read(server, path, query)
    # Asked for before anything is printed, so that an error is the whole output.
    breakdowns = {
        name: _read(server, f"{path}/{name}", {**period, "limit": str(_TOP)}) for name in SHOWN
    }
    _print_totals(counted)
    _print_chart(counted)
    for name, found in breakdowns.items():
        if any(item["value"] for item in found["items"]):
            print_result("")
            _print_items(name, found)


def _print_totals(counted: Mapping[str, Any]) -> None:
    print_result(f"{counted['from']} to {counted['to']} ({counted['timezone']})")
    before = counted["previous"]
    for name in ("clicks", "visits", "visitors"):
        if counted[name] is None:
            continue
        line = f"{name:<9}{counted[name]:>15,}"
        if before is not None and before[name] is not None:
            line += f"   before: {before[name]:,}{_change(counted[name], before[name])}"
        print_result(line)


def _change(now: int, before: int) -> str:
    return f" ({(now - before) / before:+.0%})" if before else ""


def _print_chart(counted: Mapping[str, Any]) -> None:
    points = counted["series"]
    print_result(f"\nvisits by {counted['interval']}")
    width = min(max(shutil.get_terminal_size().columns, _MIN_WIDTH), _MAX_WIDTH)
    for line in draw([point["visits"] for point in points], width):
        print_result(line)
    print_result(f"{points[0]['at']} to {points[-1]['at']}")


def _print_items(name: str, found: Mapping[str, Any]) -> None:
    from rich.table import Table  # noqa: PLC0415  # imported only by commands that print a table
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None)
    table.add_column("link" if name == "links" else name)
    for heading in ("clicks", "visits", "share")[: 2 if name == "links" else 3]:
        table.add_column(heading, justify="right")
    for item in found["items"]:
        shown = item["short_url"] if name == "links" else item["value"] or "(none)"
        # Anybody can send a value: it must not be read as markup or as a command to the terminal.
        cells = [f"{item['clicks']:,}", f"{item['visits']:,}"]
        cells += [f"{item['share']:.1%}"] if "share" in item else []
        table.add_row(Text(_printable(shown)), *cells)
    console().print(table)


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else "\ufffd" for each in text)


def _given(**values: str | None) -> dict[str, str]:
    return {name: value for name, value in values.items() if value is not None}
