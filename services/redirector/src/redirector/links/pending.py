"""A response that a lookup will bring."""

import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeAlias

import msgspec

from redirector.links.request import Request
from redirector.links.respond import Respond
from redirector.lookup.lookup import LinkEntry
from redirector.responses.responses import Response

Work: TypeAlias = Coroutine[Any, Any, Response]
Settle: TypeAlias = Callable[[Request, LinkEntry | None], Response | Work]


def make_settle(
    respond: Respond, with_rules: Callable[[Request], Work], unavailable: Response
) -> Settle:
    """Return the function that makes the response to a request from the result of its lookup."""

    def settle(request: Request, entry: LinkEntry | None) -> Response | Work:
        response = unavailable if entry is None else entry.response
        if response is None:  # it depends on the request or on the time
            return with_rules(request)
        return respond(
            response,
            request.method,
            request.domain.host,
            request.target,
            request.headers,
            request.peer,
        )

    return settle


class Pending(msgspec.Struct, gc=False, eq=False):
    """Await it, or have `then` call back, which saves a task and two turns of the event loop."""

    request: Request
    settle: Settle
    result: Response | Work | None = None
    callback: Callable[[Any, Response | Work], None] | None = None
    context: Any = None

    def found(self, entry: LinkEntry | None) -> None:
        """Take the result of the lookup."""
        self.result = result = self.settle(self.request, entry)
        if self.callback is not None:
            self.callback(self.context, result)

    def then(self, callback: Callable[[Any, Response | Work], None], context: Any) -> None:
        """Call `callback` with `context` and the response, or the work that is needed to make it.

        Calls it at once if the lookup has ended.
        """
        if self.result is not None:
            callback(context, self.result)
        else:
            self.context = context
            self.callback = callback

    def __await__(self) -> Generator[Any, Any, Response]:
        future: asyncio.Future[Response | Work] = asyncio.get_running_loop().create_future()
        self.then(_resolve, future)
        result = yield from future.__await__()
        return result if isinstance(result, Response) else (yield from result.__await__())


def _resolve(future: asyncio.Future[Response | Work], result: Response | Work) -> None:
    if not future.done():
        future.set_result(result)
    elif not isinstance(result, Response):
        result.close()  # the request was cancelled
