"""Client keys that operators made: the store holds their digests, never the keys themselves."""

import hashlib
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from math import isfinite
from time import time
from typing import Any, Final

import orjson

from proxy.call import Call
from proxy.errors import SluiceError, invalid_field
from proxy.policies.allowances import Allowance, Limits
from proxy.policies.windows import Windows, local_window
from proxy.stages.admission import tenant_of

PREFIX: Final = "sk-sluice-"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_OURS: Final = re.compile(r"open|vapi|sluice|key-[0-9a-f]{12}")  # tenants of calls without such a key
_HINT: Final = 4  # last characters of a key that are shown: of 43, so 232 random bits stay unknown
_MOST: Final = 2**53  # larger integers lose precision in some JSON parsers
_CHANGED: Final = ("expires", "requests_per_minute", "tokens_per_minute", "monthly_budget")


@dataclass(frozen=True, slots=True)
class Key:
    """One key.

    Its digest is a plain SHA-256: a secret of 256 random bits cannot be guessed, so no slow hash is needed.
    """

    name: str
    digest: str  # hexadecimal
    hint: str
    created: float  # seconds since 1970, as `expires`
    expires: float | None = None
    limits: Limits = Limits()
    kept: str = ""  # its text in the store

    def text(self) -> str:
        """The key as the store keeps it (JSON)."""
        limits = {name: getattr(self.limits, name) for name in _CHANGED[1:]}
        fields = {"digest": self.digest, "hint": self.hint, "created": self.created, "expires": self.expires}
        return orjson.dumps(fields | limits).decode()

    @property
    def expired(self) -> bool:
        """Whether its expiry has passed."""
        return self.expires is not None and self.expires <= time()


def new_key(fields: dict[str, Any]) -> tuple[Key, str]:
    """A new key with these fields, and its secret. Raises client_invalid_request, naming the field."""
    name = fields.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise invalid_field("name", "takes 1 to 64 letters, digits, dots, dashes and underscores")
    if _OURS.fullmatch(name):
        raise invalid_field("name", f"cannot be {name}: calls of other kinds are booked under that name")
    secret = PREFIX + secrets.token_urlsafe(32)
    key = Key(name, hashlib.sha256(secret.encode()).hexdigest(), f"{PREFIX}…{secret[-_HINT:]}", round(time(), 3))
    return changed_key(key, {given: value for given, value in fields.items() if given != "name"}), secret


def changed_key(key: Key, fields: dict[str, Any]) -> Key:
    """The key with other limits or another expiry; null removes one. Raises client_invalid_request."""
    for given in fields:
        if given not in _CHANGED:
            raise invalid_field(given, "is not known, or cannot be changed; what can: " + ", ".join(_CHANGED))
    limits = {name: _limit(name, value) for name, value in fields.items() if name != "expires"}
    expires = _expires(fields["expires"]) if "expires" in fields else key.expires
    key = replace(key, expires=expires, limits=replace(key.limits, **limits))
    return replace(key, kept=key.text())


def _read(name: str, text: str) -> Key:
    """Parses a stored key. Raises SluiceError, ValueError, TypeError or LookupError for unreadable text."""
    fields = orjson.loads(text)
    limits = {each: _limit(each, fields[each]) for each in _CHANGED[1:]}
    created, expires = (None if fields[each] is None else float(fields[each]) for each in ("created", "expires"))
    if created is None or len(bytes.fromhex(fields["digest"])) != hashlib.sha256().digest_size:
        raise ValueError(name)
    key = Key(name, fields["digest"], str(fields["hint"]), created, expires, kept=text)
    return replace(key, limits=replace(key.limits, **limits))


def _limit(name: str, value: object) -> Any:
    if value is None:
        return None
    whole = name != "monthly_budget"
    wanted = "must be a whole number above 0, or null" if whole else "must be US dollars, more than 0, or null"
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        raise invalid_field(name, wanted)
    if not 0 < value <= _MOST or not isfinite(value):
        raise invalid_field(name, wanted)
    return value


def _expires(value: object) -> float | None:
    """Seconds since 1970 of an ISO 8601 time, or of the start of a date (UTC)."""
    if value is None:
        return None
    try:
        read = datetime.fromisoformat(value if isinstance(value, str) else "")
        at = (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()
        shown_time(at)  # raises where the year in UTC is beyond 9999
    except (ValueError, OverflowError):
        raise invalid_field("expires", "must be a time such as 2027-01-31T12:00:00Z, a date, or null") from None
    if at <= time():
        raise invalid_field("expires", "lies in the past; to end a key now, revoke it")
    return at


@dataclass(slots=True)
class Keys:
    """The keys of the store. `spent`: USD spent this month, by key name."""

    spent: Callable[[str], float] = lambda name: 0.0
    windows: Windows = local_window
    made: dict[str, Key] = field(default_factory=dict)
    known: bool = False  # whether the store has been read
    _allowances: dict[str, Allowance] = field(default_factory=dict, repr=False)  # by digest

    def take(self, kept: dict[str, str]) -> None:
        """Replaces the keys by what the store has; unreadable entries are skipped."""
        before, self.known, self.made = self.made, True, {}
        for name, text in kept.items():
            had = before.get(name)
            try:
                self.made[name] = had if had is not None and had.kept == text else _read(name, text)
            except (SluiceError, ValueError, TypeError, LookupError):
                continue
        self._settle()

    def put(self, key: Key) -> None:
        """Adds or replaces a key."""
        self.made[key.name] = key
        self._settle()

    def drop(self, name: str) -> None:
        """Removes a revoked key."""
        self.made.pop(name, None)
        self._settle()

    def _settle(self) -> None:
        """Rebuilds the allowances of all keys. A key whose limits changed keeps its counts of the last minute."""
        before, self._allowances = self._allowances, {}
        for key in self.made.values():
            had = before.get(key.digest)
            if had is None or (had.key, had.limits, had.expires) != (key.name, key.limits, key.expires):
                window = had.window if had is not None else None
                if window is None and key.limits.by_minute:
                    window = self.windows(bytes.fromhex(key.digest))
                had = Allowance(key.name, tenant_of(key.digest), key.limits, key.expires, self.spent, window)
            self._allowances[key.digest] = had

    def admit(self, call: Call, credential: str) -> bool:
        """Whether the credential is one of these keys; the call then belongs to it.

        Raises SluiceError for an expired one.
        """
        if not credential.startswith(PREFIX):
            return False
        if not self.known:
            said = "Keys created on /admin cannot be checked: the store cannot be read."
            raise SluiceError("proxy_internal", said, status=503)
        # Looked up by digest: timing reveals nothing about other keys.
        allowance = self._allowances.get(hashlib.sha256(credential.encode("utf-8", "replace")).hexdigest())
        if allowance is None:
            return False
        if allowance.expires is not None and allowance.expires <= time():
            raise SluiceError("invalid_api_key", f"The API key {allowance.key} has expired.")
        call.tenant, call.allowance = allowance.tenant, allowance
        return True


def shown_time(at: float | None) -> str | None:
    """A time as the admin API writes it (ISO 8601, UTC)."""
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
