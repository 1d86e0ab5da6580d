"""Authentication of Vapi: by the secret, or by a recent signature of the very body.

Vapi signs with an HMAC, in hex or base64, over "{timestamp}.{body}" or over the body alone; the names of both headers,
the hash and a prefix such as `sha256=` are configured at Vapi (docs.vapi.ai, "Server authentication").
"""

import hashlib
import hmac
import re
from base64 import b64encode
from dataclasses import dataclass, field
from typing import Final, Literal

from proxy.call import Headers
from proxy.doors.reading import bearer
from proxy.errors import SluiceError
from proxy.headers import value
from proxy.secrecy import same_secret

_FRESH: Final = 300.0  # seconds that the signed time may differ from ours
_MOST: Final = 65_536  # signatures kept; the oldest are dropped first
_MILLISECONDS: Final = 100_000_000_000  # larger timestamps are milliseconds (as seconds: year 5138)
_DIGITS: Final = re.compile(rb"[0-9]{1,16}")


def shows_secret(headers: Headers, secret: str) -> bool:
    """Whether the request has the secret, as `Authorization: Bearer` or `x-vapi-secret`."""
    authorization = value(headers, b"authorization")
    shown = [(bearer(authorization) if authorization else None) or ""]
    shown.append((value(headers, b"x-vapi-secret") or b"").decode("latin-1"))
    return any([same_secret(each, secret) for each in shown])


class Replays:
    """Signatures seen so far, kept until their timestamp is too old to be accepted. Outlives reloads."""

    __slots__ = ("_taken",)

    def __init__(self) -> None:
        self._taken: dict[bytes, float] = {}  # when each expires; oldest first

    def first(self, signature: bytes, now: float) -> bool:
        """Whether the signature is seen for the first time. `now`: Unix seconds."""
        while self._taken and (oldest := next(iter(self._taken))):
            if self._taken[oldest] > now and len(self._taken) < _MOST:
                break
            del self._taken[oldest]
        if signature in self._taken:
            return False
        self._taken[signature] = now + 2 * _FRESH
        return True


@dataclass(frozen=True, slots=True)
class Scheme:
    """How Vapi signs; `timestamp_header` None: only the body is signed, and no time is checked."""

    header: str
    timestamp_header: str | None
    algorithm: Literal["sha256", "sha512", "sha1"]
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class Signing:
    """Checks signatures made with one secret."""

    secret: str = field(repr=False)
    scheme: Scheme
    replays: Replays = field(default_factory=Replays)

    def is_signed(self, headers: Headers) -> bool:
        """Whether the request has a signature, valid or not."""
        return value(headers, self.scheme.header.lower().encode()) is not None

    def check(self, headers: Headers, body: bytes, now: float) -> None:
        """Raises invalid_api_key for a signature that is wrong, too old (`now`: Unix seconds), or replayed."""
        scheme = self.scheme
        payload = body
        stamp = None
        if scheme.timestamp_header is not None:
            stamp = value(headers, scheme.timestamp_header.lower().encode()) or b""
            payload = stamp + b"." + body
        right = hmac.new(self.secret.encode(), payload, getattr(hashlib, scheme.algorithm)).digest()
        line = value(headers, scheme.header.lower().encode()) or b""
        prefix = scheme.prefix.encode()
        shown = line[len(prefix) :].strip()
        spelled = ((shown.lower(), right.hex().encode()), (shown, b64encode(right)))
        if not line.startswith(prefix) or not any([hmac.compare_digest(*each) for each in spelled]):
            raise SluiceError("invalid_api_key", "The webhook's signature is wrong.")
        if stamp is not None and not is_fresh(stamp, now):
            raise SluiceError("invalid_api_key", "The webhook's timestamp is more than five minutes off.")
        if not self.replays.first(right, now):
            raise SluiceError("invalid_api_key", "This webhook was received before.")


def is_fresh(stamp: bytes, now: float) -> bool:
    """Whether a timestamp, in seconds or milliseconds, is within five minutes of now."""
    if not _DIGITS.fullmatch(stamp):
        return False
    time = int(stamp)
    return abs((time / 1000 if time >= _MILLISECONDS else time) - now) <= _FRESH
