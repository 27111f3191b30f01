"""A response that a lookup will bring."""

import asyncio
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import Any, TypeAlias

import msgspec

from redirector.responses.responses import Response

Work: TypeAlias = Coroutine[Any, Any, Response]


class Pending(msgspec.Struct, gc=False, eq=False):
    """Await it, or have `then` call back, which saves a task and two turns of the event loop."""

    result: Response | Work | None = None
    callback: Callable[[Response | Work], None] | None = None

    def settle(self, result: Response | Work) -> None:
        """Set the response, or the work that is still needed to make it."""
        self.result = result
        if self.callback is not None:
            self.callback(result)

    def then(self, callback: Callable[[Response | Work], None]) -> None:
        """Call `callback` with what `settle` is given; at once if it was called already."""
        self.callback = callback
        if self.result is not None:
            callback(self.result)

    def __await__(self) -> Generator[Any, Any, Response]:
        future: asyncio.Future[Response | Work] = asyncio.get_running_loop().create_future()
        self.then(partial(_resolve, future))
        result = yield from future.__await__()
        return result if isinstance(result, Response) else (yield from result.__await__())


def _resolve(future: asyncio.Future[Response | Work], result: Response | Work) -> None:
    if not future.done():
        future.set_result(result)
    elif not isinstance(result, Response):
        result.close()  # the request was cancelled
