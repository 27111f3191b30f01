"""`shortctl links create|get|edit|delete|restore`: one link at a time."""

import enum
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

import msgspec
import typer

from shortctl.api.client import Key, Refused, Url, die, explain, open_api, request, say, tables
from shortctl.api.connection import NoAnswer

Link = Annotated[str, typer.Argument(help="host/code, or the short URL.")]
Json = Annotated[bool, typer.Option("--json", help="Print the API's answer as it is.")]
Target = Annotated[str | None, typer.Option("--target", help="Where it leads.")]
Status = Annotated[int | None, typer.Option("--status", help="301, 302, 307 or 308.")]
ValidFrom = Annotated[str | None, typer.Option(help="No redirect before (RFC 3339).")]
ExpiresAt = Annotated[str | None, typer.Option(help="No redirect from then on (RFC 3339).")]
ExpiredTarget = Annotated[str | None, typer.Option(help="Where it leads after its end.")]
MaxVisits = Annotated[int | None, typer.Option(help="How many visits it serves.")]
Password = Annotated[str | None, typer.Option(help="What visitors must enter first.")]
ForwardQuery = Annotated[bool | None, typer.Option(help="Append the visitor's query.")]
ForwardPath = Annotated[bool | None, typer.Option(help="Append the path after the code.")]
Title = Annotated[str | None, typer.Option(help="A name for people.")]
Tags = Annotated[list[str] | None, typer.Option("--tag", help="A tag; may be repeated.")]
Note = Annotated[str | None, typer.Option(help="A note for colleagues.")]


class Clearable(enum.StrEnum):
    """Fields that an edit can take away."""

    VALID_FROM = "valid_from"
    EXPIRES_AT = "expires_at"
    EXPIRED_TARGET = "expired_target"
    MAX_VISITS = "max_visits"
    PASSWORD = "password"  # noqa: S105  # the name of a field
    TITLE = "title"
    TAGS = "tags"
    NOTE = "note"


class State(enum.StrEnum):
    """What an owner can set."""

    ACTIVE = "active"
    DISABLED = "disabled"


def create(
    target: Annotated[str, typer.Argument(help="Where the link leads.")],
    code: Annotated[str | None, typer.Option(help="A code of your own.")] = None,
    domain: Annotated[str | None, typer.Option(help="Its host; the default one if absent.")] = None,
    status: Status = None,
    valid_from: ValidFrom = None,
    expires_at: ExpiresAt = None,
    expired_target: ExpiredTarget = None,
    max_visits: MaxVisits = None,
    password: Password = None,
    forward_query: ForwardQuery = None,
    forward_path: ForwardPath = None,
    title: Title = None,
    tags: Tags = None,
    note: Note = None,
    reuse: Annotated[
        bool | None, typer.Option("--reuse", help="Take an equal link if there is one.")
    ] = None,
    json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Create a link and print its short URL."""
    body = _given(
        target=target,
        code=code,
        domain=domain,
        redirect_status=status,
        valid_from=valid_from,
        expires_at=expires_at,
        expired_target=expired_target,
        max_visits=max_visits,
        password=password,
        forward_query=forward_query,
        forward_path=forward_path,
        title=title,
        tags=tags,
        note=note,
        find_if_exists=reuse,
    )
    link = _ask(url, key, "POST", "/api/v1/links", body)
    if json:
        show(link, json=True)
    else:
        say(link["short_url"])


def get(link: Link, json: Json = False, url: Url = None, key: Key = None) -> None:
    """Show a link."""
    show(_ask(url, key, "GET", _path(link)), json=json)


def edit(
    link: Link,
    target: Target = None,
    status: Status = None,
    state: Annotated[State | None, typer.Option(help="Switch it on or off.")] = None,
    valid_from: ValidFrom = None,
    expires_at: ExpiresAt = None,
    expired_target: ExpiredTarget = None,
    max_visits: MaxVisits = None,
    password: Password = None,
    forward_query: ForwardQuery = None,
    forward_path: ForwardPath = None,
    title: Title = None,
    tags: Tags = None,
    note: Note = None,
    clear: Annotated[
        list[Clearable] | None, typer.Option(help="Take a field away; may be repeated.")
    ] = None,
    if_version: Annotated[
        int | None, typer.Option(help="Only if the link is still at this version.")
    ] = None,
    json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Change fields of a link; those not named stay as they are."""
    body = _given(
        target=target,
        redirect_status=status,
        state=state.value if state else None,
        valid_from=valid_from,
        expires_at=expires_at,
        expired_target=expired_target,
        max_visits=max_visits,
        password=password,
        forward_query=forward_query,
        forward_path=forward_path,
        title=title,
        tags=tags,
        note=note,
    )
    body |= {name.value: None for name in clear or ()}
    if not body:
        die("Nothing to change: name a field, as in --title or --clear expires_at.")
    headers = {"content-type": "application/merge-patch+json"}
    if if_version is not None:
        headers["if-match"] = f'"{if_version}"'
    show(_ask(url, key, "PATCH", _path(link), body, headers), json=json)


def delete(link: Link, url: Url = None, key: Key = None) -> None:
    """Put a link into the trash: it answers 410 from now on, and can be restored."""
    _ask(url, key, "DELETE", _path(link))
    say(f"{link} is in the trash")


def restore(link: Link, json: Json = False, url: Url = None, key: Key = None) -> None:
    """Take a link out of the trash."""
    show(_ask(url, key, "POST", f"{_path(link)}:restore"), json=json)


def show(link: Mapping[str, Any], *, json: bool) -> None:
    """Print a link for people, or as the API gave it."""
    if json:
        say(msgspec.json.encode(link).decode())
        return
    from rich.table import Table  # noqa: PLC0415  # costs each start, and few print one

    table = Table(show_header=False, box=None)
    for name, value in link.items():
        if value not in (None, "", [], False) and name != "self":
            shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            table.add_row(name, shown, style=None)
    tables().print(table)


def _ask(
    url: str | None,
    key: str | None,
    method: str,
    path: str,
    body: object = None,
    headers: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    with open_api(url, key) as server:
        try:
            answer = request(server, method, path, body, headers)
        except (Refused, NoAnswer) as error:
            explain(error)
    link: dict[str, Any] = answer.json() if answer.content else {}
    return link


def _given(**fields: object) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value is not None}


def _path(link: str) -> str:
    parts = urlsplit(link if "://" in link else f"//{link}")
    code = parts.path.removeprefix("/")
    if not parts.hostname or not code:
        die(f"{link!r} names no link: write host/code or the short URL.")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"/api/v1/links/{quote(host, safe='[:]')}/{quote(code, safe='')}"
