"""Requests to the API, whose address and key come from options, the environment or the local stack.

`SHORTCTL_URL` and `SHORTCTL_KEY` set them. Without these variables, a command uses the stack that
`shortctl dev` runs in this working directory.
"""

from collections.abc import Mapping
from typing import Annotated, NoReturn

import msgspec
import typer

from shortcore.errors import ShortlinksError
from shortctl.api.connection import Connection, NoResponse, Response
from shortctl.running_stack import running_stack
from shortctl.terminal import fail

BAD_REQUEST = 400

Url = Annotated[
    str | None, typer.Option("--url", envvar="SHORTCTL_URL", help="Address of the API.")
]
Key = Annotated[
    str | None, typer.Option("--key", envvar="SHORTCTL_KEY", help="API key.", show_envvar=True)
]


class Refused(Exception):
    """The API refused a request, with a status, a sentence, and the errors of single fields."""

    def __init__(self, status: int, detail: str, errors: list[Mapping[str, str]]) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = errors


def api(url: str | None, key: str | None) -> tuple[str, dict[str, str]]:
    """Return the address of the API and the headers of every request.

    Ends the command if the address or the key is not known.
    """
    if url is None or key is None:
        stack = running_stack()
        # The key of a local stack must not be sent to another server.
        if stack is not None and url in (None, stack.writer_url):
            url, key = stack.writer_url, key or stack.api_key
    if url is None:
        fail(
            "The address of the API is missing: set --url or SHORTCTL_URL, or start a local stack "
            "with `shortctl dev`."
        )
    if key is None:
        fail(
            "The API key is missing: set SHORTCTL_KEY or --key. `shortctl keys create` creates a "
            "key."
        )
    return url.rstrip("/"), {"authorization": f"Bearer {key}", "user-agent": "shortctl"}


def open_api(url: str | None, key: str | None) -> Connection:
    """Return a connection to the API; the first request opens it."""
    base, headers = api(url, key)
    try:
        return Connection(base, headers)
    except ValueError as error:
        fail(str(error))


def request(
    server: Connection,
    method: str,
    path: str,
    body: object = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Send a request to the API. Raises Refused for a status of 400 or above, and NoResponse."""
    content = None if body is None else msgspec.json.encode(body)
    sent = {"content-type": "application/json"} if body is not None else {}
    response = server.send(method, path, content, {**sent, **(headers or {})})
    check(response)
    return response


def check(response: Response) -> None:
    """Raise Refused for a status of 400 or above."""
    if response.status < BAD_REQUEST:
        return
    try:
        problem = response.json()
    except ValueError:
        problem = {}
    if not isinstance(problem, dict):
        problem = {}
    detail = problem.get("detail") or f"{response.status} {response.reason}"
    raise Refused(response.status, str(detail), list(problem.get("errors", ())))


def fail_with(error: Exception) -> NoReturn:
    """Print what `error` means and end the command with exit code 1."""
    if isinstance(error, Refused):
        lines = [error.detail]
        lines += [f"  {each['pointer']}: {each['detail']}" for each in error.errors]
        fail("\n".join(lines))
    if isinstance(error, NoResponse):
        fail(f"The API does not answer: {error}")
    if isinstance(error, ShortlinksError):
        fail(error.detail)
    fail(str(error))
