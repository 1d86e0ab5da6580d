"""Client keys as operators create, change and revoke them, with their usage: the logic behind `doors/keys.py`."""

import hashlib
import logging
import re
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, Final

from proxy.decisions import store_errors
from proxy.errors import SluiceError, invalid_field
from proxy.keys import Key, changed_key, new_key, shown_time
from proxy.ledger import days_of, month, today
from proxy.stages.admission import tenant_of
from proxy.store.contract import COLUMNS, Column, Counts, StoreError

if TYPE_CHECKING:
    from proxy.app import Sluice

_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_LONG: Final = 20  # characters: only of static keys this long or longer are the last four shown

log = logging.getLogger("sluice")


@dataclass(slots=True)
class Accounts:
    """Reads and changes the client keys in force. Changes are written to the store first, so they survive a restart."""

    sluice: "Sluice"

    async def keys(self) -> list[dict[str, Any]]:
        """Every client key, the config's first: `[{name, hint, created, expires, live, reason, …, used, source}]`."""
        used, sluice = await self._used(), self.sluice
        if used is not None:  # the page asks right after a change, and another worker may answer
            with suppress(StoreError):
                await sluice.decisions.look()
        found = [_configured(key) for key in sluice.settings.access.client_keys]
        found += [self._listed(key) for key in sluice.keys.made.values()]
        return [key | {"used": None if used is None else _numbers(used.get((key["name"],), Counts()))} for key in found]

    async def _used(self) -> dict[tuple[str, ...], Counts] | None:
        """What each key used this month; None: the store could not be read."""
        try:
            return await self.sluice.ledger.sums(*days_of(month()), ("key",))
        except StoreError as error:
            log.debug("%s", error)
            return None

    async def make_key(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Creates a key; only this result ever holds the secret. Raises 400, and 409 for a name that is taken."""
        key, secret = new_key(fields)
        if key.name in self.sluice.keys.made or not await self._swap(key, None):
            raise SluiceError(
                "client_invalid_request", f"A key named {key.name} exists already.", status=409, param="name"
            )
        self.sluice.keys.put(key)
        log.info("client key %s created", key.name)
        return {"key": secret} | await self._shown(key)

    async def change_key(self, name: str, fields: dict[str, Any]) -> dict[str, Any]:
        """Changes limits and expiry of a key. Raises 400, and 404 where there is no key of that name (any more)."""
        before = await self._found(name)
        key = changed_key(before, fields)
        if not await self._swap(key, before.kept):
            message = f"The key {name} was changed or revoked by somebody else just now."
            raise SluiceError("client_invalid_request", message, status=409)
        if name in self.sluice.keys.made:  # else it was revoked meanwhile, after this was kept
            self.sluice.keys.put(key)
        log.info("client key %s changed", name)
        return await self._shown(key)

    async def revoke_key(self, name: str) -> None:
        """Deletes a key: at once in this process, within half a second in others. Raises 404."""
        await self._found(name)
        with store_errors():
            await self.sluice.decisions.keep("keys", name, None)
        self.sluice.keys.drop(name)
        log.info("client key %s revoked", name)

    async def usage(self, first: str | None, last: str | None, by: str | None) -> dict[str, Any]:
        """`{from, to, data: [{key?, day?, model?, upstream?, calls, failed, …}]}`. Raises 400 for an invalid date."""
        to = _day("to", last) if last is not None else today()
        begin = _day("from", first) if first is not None else to.replace(day=1)
        if begin > to:
            raise invalid_field("from", "is a day after `to`")
        columns = _columns(by if by is not None else "key")
        with store_errors():
            sums = await self.sluice.ledger.sums(str(begin), str(to), columns)
        data = [
            dict(zip(columns, (each or None for each in line), strict=True)) | _numbers(sums[line]) for line in sums
        ]
        return {"from": str(begin), "to": str(to), "data": data}

    async def _shown(self, key: Key) -> dict[str, Any]:
        """A key of the store as listed.

        If its budget is new, its spending so far is read first, so that the budget holds.
        """
        with suppress(StoreError):
            await self.sluice.ledger.look()
        return self._listed(key)

    def _listed(self, key: Key) -> dict[str, Any]:
        """A key of the store without its secret."""
        limits, reason = key.limits, "It has expired." if key.expired else None
        if reason is None and limits.monthly_budget is not None:
            if self.sluice.ledger.spent(key.name) >= limits.monthly_budget:
                reason = "Its budget of this month is spent."
        return {
            "name": key.name,
            "hint": key.hint,
            "created": shown_time(key.created),
            "expires": shown_time(key.expires),
            "live": reason is None,
            "reason": reason,
            "requests_per_minute": limits.requests_per_minute,
            "tokens_per_minute": limits.tokens_per_minute,
            "monthly_budget": limits.monthly_budget,
            "source": "store",
        }

    async def _found(self, name: str) -> Key:
        with store_errors():
            await self.sluice.decisions.look()
        key = self.sluice.keys.made.get(name)
        if key is None:
            raise SluiceError("client_invalid_request", f"No key named {name!r} was created on /admin.", status=404)
        return key

    async def _swap(self, key: Key, before: str | None) -> bool:
        with store_errors():
            return await self.sluice.decisions.swap("keys", key.name, before, key.kept)


def _configured(key: str) -> dict[str, Any]:
    """A key of config.yaml, listed by its tenant: it has no other name."""
    name = tenant_of(hashlib.sha256(key.encode()).hexdigest())
    unset = dict.fromkeys(
        ("created", "expires", "reason", "requests_per_minute", "tokens_per_minute", "monthly_budget")
    )
    hint = f"…{key[-4:]}" if len(key) >= _LONG else "…"
    return {"name": name, "hint": hint, "live": True, "source": "config"} | unset


def _numbers(counts: Counts) -> dict[str, Any]:
    """The counters as numbers; the cost rounded, without the errors of floating-point sums."""
    return asdict(counts) | {"cost": round(counts.cost, 9)}


def _day(name: str, text: str) -> date:
    if _DATE.fullmatch(text):
        with suppress(ValueError):  # there is no such day
            return date.fromisoformat(text)
    raise invalid_field(name, "must be a day such as 2026-11-30")


def _columns(by: str) -> tuple[Column, ...]:
    named = by.split(",")
    columns = tuple(column for column in COLUMNS if column in named)
    if len(columns) != len(named):
        raise invalid_field("by", "takes key, day, upstream and model: one of them, or several with commas between")
    return columns
