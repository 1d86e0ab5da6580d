"""Client keys as operators make, change and revoke them: the part behind the door to them."""

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from proxy.errors import SluiceError
from proxy.keys import Key, changed, made, shown_time
from proxy.stages.admission import tenant_of
from proxy.store.contract import StoreError

if TYPE_CHECKING:
    from proxy.app import Sluice

_LONG: Final = 20  # characters of a static key from which on its last four may be shown

log = logging.getLogger("sluice")


@dataclass(slots=True)
class Accounts:
    """Reads and changes the keys in force; what it changes goes through the store first, so that a restart keeps it."""

    sluice: "Sluice"

    async def keys(self) -> list[dict[str, Any]]:
        """Every client key, the config's first: `[{name, hint, created, expires, live, reason, …, used, source}]`."""
        configured = [_configured(key) for key in self.sluice.settings.access.client_keys]
        return configured + [_listed(key) for key in self.sluice.keys.made.values()]

    async def make_key(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Makes one; what is told of it has the key itself, this once. Raises 400, and 409 for a name that is taken."""
        key, secret = made(fields)
        if key.name in self.sluice.keys.made or not await self._swap(key, None):
            raise SluiceError("client_invalid_request", f"There is a key {key.name}.", status=409, param="name")
        self.sluice.keys.put(key)
        log.info("client key %s made", key.name)
        return {"key": secret} | _listed(key)

    async def change_key(self, name: str, fields: dict[str, Any]) -> dict[str, Any]:
        """Changes limits and end. Raises 400, and 404 where there is none of that name (any more)."""
        before = await self._found(name)
        key = changed(before, fields)
        if not await self._swap(key, before.kept):
            message = f"The key {name} was changed or revoked by somebody else just now."
            raise SluiceError("client_invalid_request", message, status=409)
        if name in self.sluice.keys.made:  # else it was revoked meanwhile, after this was kept
            self.sluice.keys.put(key)
        log.info("client key %s changed", name)
        return _listed(key)

    async def revoke_key(self, name: str) -> None:
        """Forgets one: at once here, within half a second elsewhere. Raises 404."""
        await self._found(name)
        with _told():
            await self.sluice.decisions.keep("keys", name, None)
        self.sluice.keys.drop(name)
        log.info("client key %s revoked", name)

    async def _found(self, name: str) -> Key:
        with _told():
            await self.sluice.decisions.look()
        key = self.sluice.keys.made.get(name)
        if key is None:
            raise SluiceError("client_invalid_request", f"There is no key {name!r} that was made here.", status=404)
        return key

    async def _swap(self, key: Key, before: str | None) -> bool:
        with _told():
            return await self.sluice.decisions.swap("keys", key.name, before, key.kept)


@contextmanager
def _told() -> Iterator[None]:
    """A store that fails, in the words that the door takes."""
    try:
        yield
    except StoreError as error:
        raise SluiceError("proxy_internal", str(error)) from None


def _listed(key: Key) -> dict[str, Any]:
    """A key of the store, without itself."""
    return {
        "name": key.name,
        "hint": key.hint,
        "created": shown_time(key.created),
        "expires": shown_time(key.expires),
        "live": not key.expired,
        "reason": "It has expired." if key.expired else None,
        "requests_per_minute": key.limits.requests_per_minute,
        "tokens_per_minute": key.limits.tokens_per_minute,
        "monthly_budget": key.limits.monthly_budget,
        "source": "store",
    }


def _configured(key: str) -> dict[str, Any]:
    """A key of config.yaml, by its tenant: it has no other name."""
    name = tenant_of(hashlib.sha256(key.encode()).hexdigest())
    unset = dict.fromkeys(
        ("created", "expires", "reason", "requests_per_minute", "tokens_per_minute", "monthly_budget")
    )
    hint = f"…{key[-4:]}" if len(key) >= _LONG else "…"
    return {"name": name, "hint": hint, "live": True, "source": "config"} | unset
