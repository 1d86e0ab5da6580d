"""The admin API: what runs, what would happen to a call, and what can be changed while running."""

from dataclasses import dataclass
from typing import Any, Final, Protocol
from urllib.parse import parse_qs, unquote

from starlette.types import Receive, Scope, Send

from proxy.call import Call
from proxy.doors.front import respond, respond_json
from proxy.doors.reading import begin_call, fill, json_object, read_body, require_json
from proxy.doors.sessions import Sessions
from proxy.doors.table import Endpoint
from proxy.errors import SluiceError
from proxy.headers import value

_LARGEST: Final = 1024 * 1024  # bytes of a body, except for explained calls
_EXPLAINED: Final = 20 * 1024 * 1024


class Control(Protocol):
    """What operators can read and change. Every change may raise SluiceError, and is logged."""

    def provider_settings(self) -> dict[str, Any]:
        """`{default_upstream, upstreams: [{name, provider, live, reason, models}]}`."""
        ...

    async def switch_default(self, upstream: str | None) -> None:
        """Switches the default upstream and stores that; None: back to the one of config.yaml."""
        ...

    def models(self, upstream: str | None) -> list[dict[str, Any]]:
        """The models that can be called, of one upstream or all. Raises 404 for an unknown one."""
        ...

    def personas(self, upstream: str | None) -> list[dict[str, Any]]:
        """The personas, of one upstream or all."""
        ...

    async def add_persona(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Creates or replaces a persona in the store."""
        ...

    async def delete_persona(self, name: str) -> None:
        """Deletes a persona."""
        ...

    def explain(self, call: Call) -> dict[str, Any]:
        """What would happen to a call."""
        ...

    async def reload(self) -> dict[str, Any]:
        """Reloads config.yaml from disk."""
        ...

    async def calls(self) -> list[dict[str, Any]]:
        """The last calls, newest first."""
        ...

    async def clear_cache(self, route: str | None, model: str | None) -> dict[str, Any]:
        """Clears the cache, or a part of it."""
        ...

    async def overview(self) -> dict[str, Any]:
        """All data of the admin page."""
        ...


@dataclass(frozen=True, slots=True)
class AdminDoor:
    """`/admin/…` as JSON, and the login form's endpoint."""

    control: Control
    sessions: Sessions

    def endpoints(self) -> list[Endpoint]:
        """What this door adds to the table."""
        get, post, put, delete = (frozenset({method}) for method in ("GET", "POST", "PUT", "DELETE"))
        return [
            Endpoint("/admin/login", post, "page", self.login),
            Endpoint("/admin/logout", post, "page", self.logout),
            Endpoint("/admin/provider-settings", get, "admin", self.provider_settings),
            Endpoint("/admin/provider-settings", put, "admin", self.switch),
            Endpoint("/admin/models", get, "admin", self.models),
            Endpoint("/admin/personas", get, "admin", self.personas),
            Endpoint("/admin/personas", post, "admin", self.add_persona),
            Endpoint("/admin/personas/*", delete, "admin", self.delete_persona),
            Endpoint("/admin/explain", post, "admin", self.explain),
            Endpoint("/admin/reload", post, "admin", self.reload),
            Endpoint("/admin/calls", get, "admin", self.calls),
            Endpoint("/admin/cache", get, "admin", self.cache),
            Endpoint("/admin/cache", delete, "admin", self.clear_cache),
            Endpoint("/admin/overview", get, "admin", self.overview),
        ]

    async def login(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Exchanges the form's `token` for a session cookie, then redirects to /admin."""
        body = await read_body(scope, receive, _LARGEST)
        shown = parse_qs(body.decode("latin-1")).get("token", [""])[0]
        origin = value(scope["headers"], b"origin") or b""  # as the browser sees it, maybe before a TLS proxy
        secure = scope["scheme"] == "https" or origin.startswith(b"https://")
        lines = [(b"location", b"/admin"), (b"set-cookie", self.sessions.opened(shown, secure))]
        await respond(scope, send, 303, b"", lines)

    async def logout(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Ends the session."""
        ended = [(b"set-cookie", line) for line in self.sessions.closed(scope["headers"])]
        lines = [(b"location", b"/admin/login"), *ended]
        await respond(scope, send, 303, b"", lines)

    async def provider_settings(self, scope: Scope, receive: Receive, send: Send) -> None:
        """GET /admin/provider-settings."""
        await respond_json(scope, send, self.control.provider_settings())

    async def switch(self, scope: Scope, receive: Receive, send: Send) -> None:
        """PUT /admin/provider-settings `{"default_upstream": name or null}`."""
        fields = await fields_of(scope, receive)
        unknown = set(fields) - {"default_upstream"}
        if unknown or "default_upstream" not in fields:
            raise invalid('The body must be {"default_upstream": NAME or null}.', "default_upstream")
        name = fields["default_upstream"]
        if name is not None and not isinstance(name, str):
            raise invalid("default_upstream must be a name, or null.", "default_upstream")
        await self.control.switch_default(name)
        await respond_json(scope, send, self.control.provider_settings())

    async def models(self, scope: Scope, receive: Receive, send: Send) -> None:
        """GET /admin/models, `?upstream=NAME`: what /v1/models says, without a client key."""
        await respond_json(scope, send, {"object": "list", "data": self.control.models(asked(scope, "upstream"))})

    async def personas(self, scope: Scope, receive: Receive, send: Send) -> None:
        """GET /admin/personas, `?upstream=NAME`."""
        await respond_json(scope, send, {"data": self.control.personas(asked(scope, "upstream"))})

    async def add_persona(self, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /admin/personas `{name, upstream, model, system, set}`."""
        await respond_json(scope, send, await self.control.add_persona(await fields_of(scope, receive)), 201)

    async def delete_persona(self, scope: Scope, receive: Receive, send: Send) -> None:
        """DELETE /admin/personas/{name}."""
        await self.control.delete_persona(unquote(scope["sluice.rest"]))
        await respond(scope, send, 204, b"", [])

    async def explain(self, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /admin/explain with a chat body."""
        call = begin_call(scope, "admin", "chat/completions")
        fill(call, await read_body(scope, receive, _EXPLAINED))
        await respond_json(scope, send, self.control.explain(call))

    async def reload(self, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /admin/reload."""
        await respond_json(scope, send, await self.control.reload())

    async def calls(self, scope: Scope, receive: Receive, send: Send) -> None:
        """GET /admin/calls."""
        await respond_json(scope, send, {"data": await self.control.calls()})

    async def cache(self, scope: Scope, receive: Receive, send: Send) -> None:
        """GET /admin/cache: entries, sizes and hits."""
        await respond_json(scope, send, (await self.control.overview())["cache"])

    async def clear_cache(self, scope: Scope, receive: Receive, send: Send) -> None:
        """DELETE /admin/cache, `?route=` and `?model=`."""
        await respond_json(scope, send, await self.control.clear_cache(asked(scope, "route"), asked(scope, "model")))

    async def overview(self, scope: Scope, receive: Receive, send: Send) -> None:
        """GET /admin/overview: what the admin page polls."""
        await respond_json(scope, send, await self.control.overview())


async def fields_of(scope: Scope, receive: Receive) -> dict[str, Any]:
    """The JSON object in the body of an admin request."""
    require_json(value(scope["headers"], b"content-type"))
    return json_object(await read_body(scope, receive, _LARGEST), scope["headers"])


def asked(scope: Scope, name: str) -> str | None:
    """A parameter of the query string."""
    found = parse_qs(scope["query_string"].decode("latin-1")).get(name)
    return found[0] if found else None


def invalid(message: str, param: str) -> SluiceError:
    """A 400 for a mistake in an admin request."""
    return SluiceError("client_invalid_request", message, param=param)
