"""The admin port: probes, health for people, metrics; plain ASGI, no framework.

`/livez` says that the process answers, `/readyz` that it has started and does not drain,
`/health` shows every dependency, `/metrics` speaks OpenMetrics. Never exposed by the chart's
Ingress.
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

Answer: TypeAlias = tuple[int, str, bytes]

_TEXT = "text/plain; charset=utf-8"


class AdminApp:
    """Answers the four paths from memory; none of them waits for anything."""

    def __init__(self, health: Health, registry: CollectorRegistry, service: str) -> None:
        self._health = health
        self._service = service
        self._routes: dict[str, Callable[[], Answer]] = {
            "/livez": lambda: (200, _TEXT, b"alive\n"),
            "/readyz": self._readyz,
            "/health": self._report,
            "/metrics": lambda: (200, CONTENT_TYPE, exposition(registry)),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        del receive
        if scope["type"] != "http":
            return
        route = self._routes.get(scope["path"])
        if route is None:
            status, kind, body = 404, _TEXT, b"here are /livez /readyz /health /metrics\n"
        elif scope["method"] == "OPTIONS":
            status, kind, body = 204, _TEXT, b""
        elif scope["method"] not in {"GET", "HEAD"}:
            status, kind, body = 405, _TEXT, b"GET or HEAD\n"
        else:
            status, kind, body = route()
        headers = [(b"cache-control", b"no-store")]
        if status in {204, 405}:
            headers.append((b"allow", b"GET, HEAD, OPTIONS"))
        if status != 204:  # noqa: PLR2004  # has no body, nor a length (RFC 9110, section 8.6)
            headers.append((b"content-type", kind.encode()))
            headers.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send(
            {"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body}
        )

    def _readyz(self) -> Answer:
        status = 200 if self._health.ready else 503
        return status, _TEXT, f"{self._health.phase.value}\n".encode()

    def _report(self) -> Answer:
        dependencies = self._health.dependencies()
        body = {
            "service": self._service,
            "phase": self._health.phase.value,
            "uptime_s": round(time.time() - self._health.started_at, 1),
            "dependencies": {
                each.name: {"ok": each.ok, "detail": each.detail} for each in dependencies
            },
        }
        # Always 200: it is for people; probes read /readyz.
        return 200, "application/json", msgspec.json.encode(body) + b"\n"
