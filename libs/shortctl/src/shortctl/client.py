"""Where the API is and how to ask it: options, then environment, then a running stack.

`SHORTCTL_URL` and `SHORTCTL_KEY` name it; what they leave out is taken from `.state/dev.json`,
which `shortctl dev` writes.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, NoReturn, TypedDict

import httpx
import msgspec
import typer
from rich.console import Console

from shortcore.errors import ShortlinksError
from shortctl.devstate import Facts

# A pipe has no width: what a script reads must not be cut at 80 columns.
out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 4000)
err = Console(stderr=True, highlight=False, soft_wrap=True)

DEV_FILE = Path(".state/dev.json")
TIMEOUT = httpx.Timeout(30, connect=5)


class Options(TypedDict):
    """How every client of httpx is made."""

    base_url: str
    headers: dict[str, str]
    timeout: httpx.Timeout
    trust_env: bool
    verify: bool


def options(base: str, headers: dict[str, str]) -> Options:
    """Return how to make a client of the API at `base`."""
    # Where no TLS is spoken, the machine's certificates need not be read first: 30 ms.
    verify = not base.startswith("http://")
    return Options(base_url=base, headers=headers, timeout=TIMEOUT, trust_env=False, verify=verify)


Url = Annotated[str | None, typer.Option("--url", envvar="SHORTCTL_URL", help="The API's address.")]
Key = Annotated[
    str | None, typer.Option("--key", envvar="SHORTCTL_KEY", help="An API key.", show_envvar=True)
]


class Refused(Exception):
    """The API refused a request: its status, its sentence and the fields that it names."""

    def __init__(self, status: int, detail: str, errors: list[Mapping[str, str]]) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = errors


def die(message: str) -> NoReturn:
    """End with a sentence on standard error and exit code 1."""
    err.print(message, style="red", markup=False)
    raise typer.Exit(1)


def dev_facts() -> Facts | None:
    """Return where the stack of this working directory is, or None when none runs."""
    try:
        return msgspec.json.decode(DEV_FILE.read_bytes(), type=Facts)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        die(f"{DEV_FILE}: {error}")


def api(url: str | None, key: str | None) -> tuple[str, dict[str, str]]:
    """Return the API's address and the headers of every request; ends when one is unknown."""
    if url is None or key is None:
        facts = dev_facts()
        # The key of a local stack is no business of another server.
        if facts is not None and url in (None, facts.writer_url):
            url, key = facts.writer_url, key or facts.api_key
    if url is None:
        die("Where is the API? Give --url or SHORTCTL_URL, or start one with `shortctl dev`.")
    if key is None:
        die("Give an API key by SHORTCTL_KEY or --key; `shortctl keys create` makes one.")
    return url.rstrip("/"), {"authorization": f"Bearer {key}", "user-agent": "shortctl"}


def request(
    client: httpx.Client,
    method: str,
    path: str,
    body: object = None,
    headers: Mapping[str, str] | None = None,
) -> httpx.Response:
    """Ask the API; raises Refused for an answer of 400 or above."""
    response = (
        client.request(method, path, json=body, headers=headers)
        if body is not None
        else client.request(method, path, headers=headers)
    )
    check(response)
    return response


def check(response: httpx.Response) -> None:
    """Raise Refused for an answer of 400 or above."""
    if response.status_code < httpx.codes.BAD_REQUEST:
        return
    try:
        problem = response.json()
    except ValueError:
        problem = {}
    if not isinstance(problem, dict):
        problem = {}
    detail = problem.get("detail") or f"{response.status_code} {response.reason_phrase}"
    raise Refused(response.status_code, str(detail), list(problem.get("errors", ())))


def open_api(url: str | None, key: str | None) -> httpx.Client:
    """Return a client of the API."""
    base, headers = api(url, key)
    return httpx.Client(**options(base, headers))


def explain(error: Exception) -> NoReturn:
    """End with what `error` means to the person at the terminal."""
    if isinstance(error, Refused):
        lines = [error.detail]
        lines += [f"  {each['pointer']}: {each['detail']}" for each in error.errors]
        die("\n".join(lines))
    if isinstance(error, httpx.TransportError):
        die(f"The API does not answer: {type(error).__name__}: {error}")
    if isinstance(error, ShortlinksError):
        die(error.detail)
    die(str(error))
