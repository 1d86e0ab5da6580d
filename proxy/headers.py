"""Which header lines may pass, and in which direction."""

import ipaddress
import re
from typing import Final

from proxy.call import Headers

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
_NEVER_BACK: Final = _HOP_BY_HOP | {b"set-cookie", b"server", b"alt-svc", b"date", b"via", b"forwarded", b"x-real-ip"}
_NEVER_BACK_PREFIXES: Final = (b"x-sluice-", b"x-forwarded-", b"access-control-", b"proxy-")
_ADDRESS: Final = re.compile(
    rb"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])|\[[0-9a-fA-F:.]+\]|\blocalhost\b|\.internal\b"
)


def to_upstream(headers: Headers) -> Headers:
    """The client's lines that an upstream may see: no framing, credentials, cookies or traces of where it came from."""
    named = _named_by_connection(headers)
    return [
        (name, value)
        for name, value in headers
        if name not in _NEVER_OUT
        and not name.startswith((b"x-forwarded-", b"x-sluice-", b"sec-"))
        and name not in named
    ]


def to_client(headers: Headers) -> Headers:
    """The upstream's lines that a client may see; its request id comes back as x-upstream-request-id."""
    named = _named_by_connection(headers)
    passed = []
    for name, value in headers:
        if name in _NEVER_BACK or name in named or name.startswith(_NEVER_BACK_PREFIXES):
            continue
        if name in (b"x-request-id", b"request-id"):
            name = b"x-upstream-request-id"
        elif name == b"server-timing" or _names_an_internal_address(value):
            continue
        passed.append((name, value))
    return passed


def _named_by_connection(headers: Headers) -> set[bytes]:
    return {token.strip().lower() for name, value in headers if name == b"connection" for token in value.split(b",")}


def _names_an_internal_address(value: bytes) -> bool:
    if b"." not in value and b"[" not in value and b"localhost" not in value:
        return False
    for found in _ADDRESS.findall(value):
        try:
            address = ipaddress.ip_address(found.strip(b"[]").decode())
        except ValueError:
            if found in (b"localhost", b".internal"):
                return True
            continue
        if not address.is_global:
            return True
    return False


def value(headers: Headers, name: bytes) -> bytes | None:
    """The first line of this (lower-case) name."""
    for found, content in headers:
        if found == name:
            return content
    return None
