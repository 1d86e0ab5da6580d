"""Health checks and metrics for operators."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.types import Receive, Scope, Send

from proxy.doors.front import respond, respond_json
from proxy.doors.table import Endpoint


@dataclass(frozen=True, slots=True)
class HealthLine:
    """The health of one upstream, without its address."""

    name: str
    provider: str
    live: bool  # switched on
    healthy: bool
    reason: str  # why it is off or unhealthy; "": neither


@dataclass(frozen=True, slots=True)
class Operations:
    """`/livez`, `/readyz`, `/health` and `/metrics`."""

    health: Callable[[], list[HealthLine]]
    draining: Callable[[], bool]
    exposition: Callable[[], Awaitable[tuple[bytes, str]]]  # Prometheus text and its content type

    def endpoints(self) -> list[Endpoint]:
        """What this door adds to the table."""
        get = frozenset({"GET", "HEAD"})
        return [
            Endpoint("/", get, "open", self.root),
            Endpoint("/livez", get, "open", self.alive),
            Endpoint("/healthz", get, "open", self.ready),
            Endpoint("/health", get, "open", self.ready),
            Endpoint("/health/liveliness", get, "open", self.alive),
            Endpoint("/health/readiness", get, "open", self.ready),
            Endpoint("/readyz", get, "open", self.ready),
            Endpoint("/metrics", get, "metrics", self.metrics),
        ]

    async def root(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Identifies the server; clients probe it with HEAD."""
        await respond_json(scope, send, {"name": "sluice", "api": "/v1", "chat": "/ui", "health": "/health"})

    async def alive(self, scope: Scope, receive: Receive, send: Send) -> None:
        """200 while the process answers."""
        await respond_json(scope, send, {"status": "alive", "upstreams": self._lines()})

    async def ready(self, scope: Scope, receive: Receive, send: Send) -> None:
        """200 while calls are accepted; 503 while draining, or if no upstream is switched on."""
        usable = any(upstream.live for upstream in self.health())
        status = "draining" if self.draining() else "ready" if usable else "no upstream is switched on"
        code = 200 if status == "ready" else 503
        await respond_json(scope, send, {"status": status, "upstreams": self._lines()}, code)

    async def metrics(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The Prometheus text format."""
        body, content_type = await self.exposition()
        await respond(scope, send, 200, body, [(b"content-type", content_type.encode())])

    def _lines(self) -> list[dict[str, object]]:
        return [
            {
                "name": upstream.name,
                "provider": upstream.provider,
                "live": upstream.live,
                "healthy": upstream.healthy,
                "reason": upstream.reason or None,
            }
            for upstream in self.health()
        ]
