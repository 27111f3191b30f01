"""The admin port: probes, the state of dependencies, and metrics, as a plain ASGI application.

`/livez` answers while the process runs. `/readyz` answers 200 if the process has started and is not
draining. `/health` shows the state of each dependency, for people. `/metrics` returns metrics in the
OpenMetrics format. The chart never exposes this port by its Ingress.
"""

import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

import msgspec
from prometheus_client import CollectorRegistry

from shortcore.runtime.health import Health
from shortcore.runtime.metrics import CONTENT_TYPE, exposition

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

Response: TypeAlias = tuple[int, str, bytes]
"""Status, content type and body."""

_TEXT = "text/plain; charset=utf-8"


class AdminApp:
    """Answers the four paths from memory, without any I/O."""

    def __init__(self, health: Health, registry: CollectorRegistry, service: str) -> None:
        self._health = health
        self._service = service
        self._routes: dict[str, Callable[[], Response]] = {
            "/livez": lambda: (200, _TEXT, b"alive\n"),
            "/readyz": self._readyz,
            "/health": self._report,
            "/metrics": lambda: (200, CONTENT_TYPE, exposition(registry)),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        del receive
        if scope["type"] != "http":
            return
        route = self._routes.get(scope["path"])
        if route is None:
            status, kind, body = (
                404,
                _TEXT,
                b"not found: the paths are /livez, /readyz, /health and /metrics\n",
            )
        elif scope["method"] == "OPTIONS":
            status, kind, body = 204, _TEXT, b""
        elif scope["method"] not in {"GET", "HEAD"}:
            status, kind, body = 405, _TEXT, b"method not allowed: use GET or HEAD\n"
        else:
            status, kind, body = route()
        headers = [(b"cache-control", b"no-store")]
        if status in {204, 405}:
            headers.append((b"allow", b"GET, HEAD, OPTIONS"))
        if status != 204:  # noqa: PLR2004  # 204 has neither a body nor a length (RFC 9110, section 8.6)
            headers.append((b"content-type", kind.encode()))
            headers.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send(
            {"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body}
        )

    def _readyz(self) -> Response:
        status = 200 if self._health.ready else 503
        return status, _TEXT, f"{self._health.phase.value}\n".encode()

    def _report(self) -> Response:
        dependencies = self._health.dependencies()
        body = {
            "service": self._service,
            "phase": self._health.phase.value,
            "uptime_s": round(time.time() - self._health.started_at, 1),
            "dependencies": {
                each.name: {"ok": each.ok, "detail": each.detail} for each in dependencies
            },
        }
        # Always 200, because people read it; probes use /readyz.
        return 200, "application/json", msgspec.json.encode(body) + b"\n"
