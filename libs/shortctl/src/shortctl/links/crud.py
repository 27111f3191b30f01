"""The commands `shortctl links create|get|put|edit|delete|restore`, for a single link."""

import enum
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
import typer

from shortctl.api.addresses import path_of
from shortctl.api.client import Key, Refused, Url, fail_with, open_api, request
from shortctl.api.connection import NoResponse
from shortctl.links.options import Json
from shortctl.terminal import console, fail, print_result

Link = Annotated[str, typer.Argument(help="The link, as host/code or as its short URL.")]
Target = Annotated[str | None, typer.Option("--target", help="URL that the link leads to.")]
Status = Annotated[int | None, typer.Option("--redirect-status", help="301, 302, 307 or 308.")]
ValidFrom = Annotated[str | None, typer.Option(help="Start of its validity (RFC 3339).")]
ExpiresAt = Annotated[str | None, typer.Option(help="Time of its expiry (RFC 3339).")]
ExpiredTarget = Annotated[str | None, typer.Option(help="URL that it leads to after its expiry.")]
MaxVisits = Annotated[int | None, typer.Option(help="Maximum number of visits.")]
Password = Annotated[str | None, typer.Option(help="Password that visitors must enter.")]
ForwardQuery = Annotated[
    bool | None, typer.Option(help="Append the query string of a visit to the target.")
]
ForwardPath = Annotated[
    bool | None, typer.Option(help="Append the path after the code to the target.")
]
Title = Annotated[str | None, typer.Option(help="Title, shown in lists.")]
Tags = Annotated[list[str] | None, typer.Option("--tag", help="Tag; may be repeated.")]
Note = Annotated[str | None, typer.Option(help="Internal note.")]
Enabled = Annotated[
    bool | None, typer.Option("--enable/--disable", help="Whether the link redirects.")
]
IfVersion = Annotated[int | None, typer.Option(help="Fail if the link has another version.")]


class Clearable(enum.StrEnum):
    """Fields that `edit --clear` can remove."""

    VALID_FROM = "valid_from"
    EXPIRES_AT = "expires_at"
    EXPIRED_TARGET = "expired_target"
    MAX_VISITS = "max_visits"
    PASSWORD = "password"  # noqa: S105  # the name of a field
    TITLE = "title"
    TAGS = "tags"
    NOTE = "note"


def create(
    target: Annotated[str, typer.Argument(help="URL that the link leads to.")],
    code: Annotated[
        str | None, typer.Option(help="Custom code; by default, the API generates one.")
    ] = None,
    domain: Annotated[
        str | None, typer.Option(help="Domain; by default, that of the service.")
    ] = None,
    status: Status = None,
    enabled: Enabled = None,
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
        bool | None,
        typer.Option(
            "--reuse", help="Return an equal link of the domain instead, if there is one."
        ),
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
        enabled=enabled,
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
    link = _request(url, key, "POST", "/api/v1/links", body)
    if json:
        show(link, json=True)
    else:
        print_result(link["short_url"])


def get(link: Link, json: Json = False, url: Url = None, key: Key = None) -> None:
    """Show a link."""
    show(_request(url, key, "GET", path_of(link)), json=json)


def edit(
    link: Link,
    target: Target = None,
    status: Status = None,
    enabled: Enabled = None,
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
        list[Clearable] | None, typer.Option(help="Remove the value of a field; may be repeated.")
    ] = None,
    if_version: IfVersion = None,
    json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Change fields of a link. Fields without an option keep their values."""
    body = _given(
        target=target,
        redirect_status=status,
        enabled=enabled,
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
        fail("Nothing to change: set an option, such as --title or --clear expires_at.")
    headers = {"content-type": "application/merge-patch+json"} | _only_version(if_version)
    show(_request(url, key, "PATCH", path_of(link), body, headers), json=json)


def put(
    link: Link,
    target: Annotated[str, typer.Argument(help="URL that the link leads to.")],
    status: Status = None,
    enabled: Enabled = None,
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
    if_absent: Annotated[
        bool, typer.Option("--if-absent", help="Fail if the link exists already.")
    ] = False,
    if_version: IfVersion = None,
    json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Create a link, or replace it: what no option sets gets its default."""
    body = _given(
        target=target,
        redirect_status=status,
        enabled=enabled,
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
    headers = _only_version(if_version) | ({"if-none-match": "*"} if if_absent else {})
    show(_request(url, key, "PUT", path_of(link), body, headers), json=json)


def delete(link: Link, url: Url = None, key: Key = None) -> None:
    """Move a link to the trash: visitors get status 410 until it is restored."""
    _request(url, key, "DELETE", path_of(link))
    print_result(f"{link} is in the trash")


def restore(link: Link, json: Json = False, url: Url = None, key: Key = None) -> None:
    """Restore a link from the trash."""
    show(_request(url, key, "POST", f"{path_of(link)}:restore"), json=json)


def show(link: Mapping[str, Any], *, json: bool) -> None:
    """Print a link as a table, or with `json` as the API returned it."""
    if json:
        print_result(msgspec.json.encode(link).decode())
        return
    from rich.table import Table  # noqa: PLC0415  # imported only by commands that print a table

    table = Table(show_header=False, box=None)
    for name, value in link.items():
        if value not in (None, "", [], False) and name != "self":
            shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            table.add_row(name, shown, style=None)
    console().print(table)


def _request(
    url: str | None,
    key: str | None,
    method: str,
    path: str,
    body: object = None,
    headers: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    with open_api(url, key) as server:
        try:
            response = request(server, method, path, body, headers)
        except (Refused, NoResponse) as error:
            fail_with(error)
    link: dict[str, Any] = response.json() if response.content else {}
    return link


def _only_version(version: int | None) -> dict[str, str]:
    return {} if version is None else {"if-match": f'"{version}"'}


def _given(**fields: object) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value is not None}
