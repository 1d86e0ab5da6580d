"""The ASGI app in front of all doors: finds the endpoint, checks access, and puts failures into OpenAI's error form."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import orjson
from starlette.types import Receive, Scope, Send

from proxy.call import Headers
from proxy.doors.replying import send_whole
from proxy.doors.table import Access, Found, Table
from proxy.errors import SluiceError
from proxy.headers import request_id, value

_REMEMBERED: Final = 1024
_SHOWN: Final = 200  # bytes of a wrong path that its error names
_ANY: Final = frozenset({"GET", "HEAD", "POST"})
_OURS_ALONE: Final = frozenset({"admin", "chat", "desk", "metrics", "page", "vapi"})
"""Access classes that no page of another origin may use."""
_JSON: Final = (b"content-type", b"application/json")
_EXPOSED: Final = (
    b"x-request-id, x-upstream-request-id, x-sluice-route, x-sluice-upstream, x-sluice-model, x-sluice-attempts, "
    b"x-sluice-cache, x-sluice-changes, server-timing, retry-after, retry-after-ms, x-should-retry, "
    b"x-ratelimit-limit-requests, x-ratelimit-remaining-requests, x-ratelimit-reset-requests, "
    b"x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens"
)

Check = Callable[[Scope], None]
"""Raises SluiceError if the request may not proceed."""

log = logging.getLogger("sluice")


@dataclass(slots=True)
class Front:
    """The app that the server calls."""

    table: Table
    checks: Mapping[Access, Check]
    cors: frozenset[str] = frozenset()
    _found: dict[tuple[bytes, str], Found] = field(default_factory=dict)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            if self.cors:
                scope["sluice.extra"] = cross_origin(scope["headers"], self.cors)
            found = self._found.get((scope["raw_path"], scope["method"])) or self._find(scope)
            endpoint = found.endpoint
            if self.cors and endpoint.access in _OURS_ALONE:
                scope.pop("sluice.extra", None)  # CORS is for /v1 alone
            if check := self.checks.get(endpoint.access):
                check(scope)
            scope["sluice.rest"] = found.rest
            await endpoint.app(scope, receive, send)
        except SluiceError as failure:
            await self._fail(scope, send, failure)

    def _find(self, scope: Scope) -> Found:
        key = (scope["raw_path"], scope["method"])
        looked_up = self.table.find(*key)
        if isinstance(looked_up, Found):
            if not looked_up.rest and len(self._found) < _REMEMBERED:
                self._found[key] = looked_up
            return looked_up
        if key[1] == "OPTIONS" and (looked_up or key[0] in (b"*", b"/")):
            taken = [found for method in looked_up if isinstance(found := self.table.find(key[0], method), Found)]
            if any(found.endpoint.access in _OURS_ALONE for found in taken):
                scope.pop("sluice.extra", None)
            raise Preflight(looked_up)
        if not looked_up:
            if key[1] == "OPTIONS" and scope.get("sluice.extra"):
                raise Preflight(_ANY)  # else the page's user never sees the 404 that names the wrong path
            path = key[0][:_SHOWN].decode("latin-1")
            problem = f"There is nothing at {path}; OpenAI's API is under /v1."
            raise SluiceError("client_invalid_request", problem, status=404)
        raise NotAllowed(looked_up)

    async def _fail(self, scope: Scope, send: Send, failure: SluiceError) -> None:
        if isinstance(failure, Preflight):
            lines = preflight(scope["headers"], bool(scope.get("sluice.extra")), failure.methods)
            await respond(scope, send, 204, b"", lines)
        else:
            await respond(scope, send, failure.status, failure.body(), [_JSON, *failure.headers()])


class Preflight(SluiceError):
    """An OPTIONS request to an existing path: raised like a failure, since it is answered in the same place."""

    def __init__(self, methods: frozenset[str]) -> None:
        super().__init__("client_invalid_request", "OPTIONS")
        self.methods = methods


class NotAllowed(SluiceError):
    """A method that the path does not support; `allow` lists the supported ones (RFC 9110, 15.5.6)."""

    def __init__(self, methods: frozenset[str]) -> None:
        allowed = ", ".join(sorted(methods))
        super().__init__("client_invalid_request", f"This path takes {allowed}.", status=405)
        self.methods = methods

    def headers(self) -> Headers:
        return [*super().headers(), allow(self.methods)]


def allow(methods: frozenset[str]) -> tuple[bytes, bytes]:
    """The `allow` header with these methods, and OPTIONS, which every path supports."""
    return (b"allow", ", ".join(sorted(methods | {"OPTIONS"})).encode())


def cross_origin(headers: Headers, allowed: frozenset[str]) -> Headers:
    """The CORS response headers for a browser page of an allowed origin."""
    origin = value(headers, b"origin")
    if origin is None or (origin.decode("latin-1") not in allowed and "*" not in allowed):
        return []
    return [
        (b"access-control-allow-origin", origin),
        (b"access-control-expose-headers", _EXPOSED),
        (b"vary", b"origin"),
    ]


def preflight(headers: Headers, allowed: bool, methods: frozenset[str]) -> Headers:
    """The answer to a CORS preflight. Any request header is allowed, since SDKs send many of their own.

    `allowed`: the lines of `cross_origin`, sent with it.
    """
    lines: Headers = [allow(methods)]
    if allowed:
        asked = value(headers, b"access-control-request-headers") or b"*"
        lines += [(b"access-control-allow-headers", asked)]
        lines += [(b"access-control-allow-methods", ", ".join(sorted(methods)).encode())]
        lines += [(b"access-control-max-age", b"600")]
    return lines


async def respond(scope: Scope, send: Send, status: int, body: bytes, headers: Headers) -> None:
    """Sends a whole answer with its request id; without the body to a HEAD request."""
    lines = [*headers]
    if not any(name == b"x-request-id" for name, _ in headers):
        lines.append((b"x-request-id", request_id(scope["headers"]).encode()))
    if sending := send_whole(scope, send, status, lines, body):
        await sending


async def respond_json(scope: Scope, send: Send, content: object, status: int = 200) -> None:
    """The same for a JSON value."""
    await respond(scope, send, status, orjson.dumps(content), [_JSON, (b"cache-control", b"no-store")])
