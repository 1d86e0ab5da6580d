"""Which header lines may pass, and in which direction."""

import ipaddress
import random
import re
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import Any, Final, Literal

from proxy.call import Headers


class Lines(list[tuple[bytes, bytes]]):
    """Header lines that never change, with a cache of what was computed from them: connections repeat their heads."""

    __slots__ = ("worked",)

    def __init__(self, lines: Iterable[tuple[bytes, bytes]] = ()) -> None:
        super().__init__(lines)
        self.worked: dict[object, Any] = {}


_HOP_BY_HOP: Final = {
    b"connection",
    b"keep-alive",
    b"proxy-authenticate",
    b"proxy-authorization",
    b"proxy-connection",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
    b"content-length",
    b"expect",
}
_NEVER_OUT: Final = _HOP_BY_HOP | {
    b"authorization",
    b"x-api-key",
    b"api-key",
    b"cookie",
    b"host",
    b"accept-encoding",
    b"content-encoding",
    b"forwarded",
    b"via",
    b"x-real-ip",
    b"origin",
    b"referer",
}
_NEVER_BACK: Final = _HOP_BY_HOP | {
    b"set-cookie",
    b"set-cookie2",
    # What a browser would take as said by our own site:
    b"strict-transport-security",
    b"clear-site-data",
    b"nel",
    b"report-to",
    b"reporting-endpoints",
    b"server-timing",
    b"server",
    b"alt-svc",
    b"date",
    b"via",
    b"forwarded",
    b"x-real-ip",
}
Verdict = Literal["stays", "passes", "renamed", "looked at"]
"""What happens to a header line. "renamed" and "looked at" hold unless its value names an internal address."""

SANE_ID: Final = re.compile(rb"[A-Za-z0-9._:@=+/-]{1,128}")
"""Values of a client's x-request-id that are kept."""
_NO_NAMES: Final = (b"keep-alive", b"close")  # what `connection` says besides names of headers
_REMEMBERED: Final = 1024
_TELLING: Final = re.compile(rb"\.|\[|//|::|localhost")  # no address is without any of these
_ADDRESS: Final = re.compile(
    rb"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])|\[[0-9a-f:.]+\]|(?<![\w:])[0-9a-f:]*::[0-9a-f:.]*(?![\w:])"
    rb"|\blocalhost\b|\.(?:internal|local)\b|(?<=//)[a-z0-9_-]+(?=[:/?#]|\Z)"
)


class _Rule(dict[bytes, Verdict]):
    """The verdict for each header name, computed once.

    Unknown names are not kept, since clients can invent any number.
    """

    def __init__(self, never: frozenset[bytes], prefixes: tuple[bytes, ...], known: dict[bytes, Verdict]) -> None:
        super().__init__()
        self._never, self._prefixes, self._known = never, prefixes, known

    def __missing__(self, name: bytes) -> Verdict:
        if len(self) >= _REMEMBERED:
            self.clear()
        stays = name in self._never or name.startswith(self._prefixes)
        self[name] = verdict = "stays" if stays else self._known.get(name, "looked at")
        return verdict


_OUT: Final = _Rule(frozenset(_NEVER_OUT), (b"x-forwarded-", b"x-sluice-", b"sec-"), {})
_BACK: Final = _Rule(
    frozenset(_NEVER_BACK),
    (b"x-sluice-", b"x-forwarded-", b"access-control-", b"proxy-"),
    {b"content-type": "passes", b"cache-control": "passes", b"x-request-id": "renamed", b"request-id": "renamed"},
)


def to_upstream(headers: Headers) -> Headers:
    """The client's header lines that an upstream may see: no framing, credentials, cookies or traces of its origin."""
    verdicts = _OUT
    passed = [line for line in headers if verdicts[line[0]] != "stays"]
    if any(line[0] == b"connection" for line in headers):
        named = _named_by_connection(headers)
        return [line for line in passed if line[0] not in named]
    return passed


def to_client(headers: Headers) -> Headers:
    """The upstream's header lines that a client may see; its request id is renamed to x-upstream-request-id."""
    verdicts, kept = _BACK, []
    for line in headers:
        verdict = verdicts[line[0]]
        if verdict == "passes":
            kept.append(line)
        elif verdict != "stays":
            if not _names_an_internal_address(line[1]):
                kept.append(line if verdict == "looked at" else (b"x-upstream-request-id", line[1]))
        elif line[0] == b"connection" and line[1].lower() not in _NO_NAMES:
            named = {*_named_by_connection(headers), b"connection"}
            return to_client([line for line in headers if line[0] not in named])
    return kept


def of_type(headers: Headers, kind: bytes) -> Headers:
    """The lines with their content type replaced."""
    return [line for line in headers if line[0] != b"content-type"] + [(b"content-type", kind)]


def _named_by_connection(headers: Headers) -> AbstractSet[bytes]:
    return {token.strip().lower() for name, value in headers if name == b"connection" for token in value.split(b",")}


def _names_an_internal_address(value: bytes) -> bool:
    value = value.lower()
    if not _TELLING.search(value):
        return False
    for found in _ADDRESS.findall(value):
        try:
            address = ipaddress.ip_address(found.strip(b"[]").decode())
        except ValueError:
            if b":" not in found and not found.endswith(b"]") and not found[-1:].isdigit():
                return True  # a host name of an internal network
            continue
        if not address.is_global:
            return True
    return False


def request_id(headers: Headers) -> str:
    """The client's own x-request-id if it is acceptable, else a new one."""
    shown = value(headers, b"x-request-id")
    return shown.decode() if shown and SANE_ID.fullmatch(shown) else new_id()


def new_id() -> str:
    """A new id for a request that brought none."""
    return f"req_{random.randbytes(12).hex()}"


def value(headers: Headers, name: bytes) -> bytes | None:
    """The value of the first line with this (lower-case) name, or None."""
    for found, content in headers:
        if found == name:
            return content
    return None
