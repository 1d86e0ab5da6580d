"""The admin API for client keys and usage."""

from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import unquote

from starlette.types import Receive, Scope, Send

from proxy.doors.admin import asked, fields_of
from proxy.doors.front import respond, respond_json
from proxy.doors.table import Endpoint


class Accounts(Protocol):
    """Client keys as operators see them. Every change may raise SluiceError, and is logged."""

    async def keys(self) -> list[dict[str, Any]]:
        """Every key with its limits and its usage of this month; never the secret."""
        ...

    async def make_key(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Creates a key; only this answer ever holds the secret."""
        ...

    async def change_key(self, name: str, fields: dict[str, Any]) -> dict[str, Any]:
        """Changes limits and expiry."""
        ...

    async def revoke_key(self, name: str) -> None:
        """Deletes a key."""
        ...

    async def usage(self, first: str | None, last: str | None, by: str | None) -> dict[str, Any]:
        """Usage between two days, summed by one or several columns."""
        ...


@dataclass(frozen=True, slots=True)
class KeysDoor:
    """`/admin/keys` and `/admin/usage`."""

    accounts: Accounts

    def endpoints(self) -> list[Endpoint]:
        """What this door adds to the table."""
        get, post, patch, delete = (frozenset({method}) for method in ("GET", "POST", "PATCH", "DELETE"))
        return [
            Endpoint("/admin/keys", get, "admin", self.keys),
            Endpoint("/admin/keys", post, "admin", self.make),
            Endpoint("/admin/keys/*", patch, "admin", self.change),
            Endpoint("/admin/keys/*", delete, "admin", self.revoke),
            Endpoint("/admin/usage", get, "admin", self.usage),
        ]

    async def keys(self, scope: Scope, receive: Receive, send: Send) -> None:
        """GET /admin/keys."""
        await respond_json(scope, send, {"data": await self.accounts.keys()})

    async def make(self, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /admin/keys `{name, expires?, requests_per_minute?, tokens_per_minute?, monthly_budget?}`."""
        await respond_json(scope, send, await self.accounts.make_key(await fields_of(scope, receive)), 201)

    async def change(self, scope: Scope, receive: Receive, send: Send) -> None:
        """PATCH /admin/keys/{name}."""
        name, fields = unquote(scope["sluice.rest"]), await fields_of(scope, receive)
        await respond_json(scope, send, await self.accounts.change_key(name, fields))

    async def revoke(self, scope: Scope, receive: Receive, send: Send) -> None:
        """DELETE /admin/keys/{name}."""
        await self.accounts.revoke_key(unquote(scope["sluice.rest"]))
        await respond(scope, send, 204, b"", [])

    async def usage(self, scope: Scope, receive: Receive, send: Send) -> None:
        """GET /admin/usage, `?from=`, `?to=` and `?by=`."""
        first, last, by = (asked(scope, name) for name in ("from", "to", "by"))
        await respond_json(scope, send, await self.accounts.usage(first, last, by))
