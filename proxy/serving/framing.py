"""Strict validation of request heads (RFC 9112).

The parser (llhttp) has already refused: Transfer-Encoding beside Content-Length, repeated or malformed Content-Length,
bare LF, folded lines, spaces before a colon, NUL. What it accepts and other parsers read differently is refused here.
"""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Final

from proxy.call import Headers
from proxy.errors import SluiceError
from proxy.serving.limits import MAX_HEAD, MAX_LINES, MAX_TARGET

HOST: Final = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~-]+)(?::[0-9]{0,5})?")
"""RFC 9110 7.2 `uri-host [":" port]`, without the percent-encoding and sub-delimiters that no real host name has."""
FRAGMENT: Final = ord("#")
SINGLE: Final = frozenset(
    {b"host", b"authorization", b"x-api-key", b"api-key", b"content-type", b"content-length", b"transfer-encoding"}
)
"""Headers that may occur only once, since two would be ambiguous."""


def invalid(message: str, status: int = 400) -> SluiceError:
    """The error of a malformed request."""
    return SluiceError("client_invalid_request", message, status=status)


def check_head(version: str, target: bytes, headers: Headers, fields: Mapping[bytes, bytes]) -> None:
    """Raises `SluiceError` (400 or 431) for a head that could be misread.

    `fields`: the headers by name (lower case).
    """
    if len(headers) > MAX_LINES:
        raise invalid(f"The request has more than {MAX_LINES} header lines.", 431)
    if len(target) > MAX_TARGET:
        raise invalid(f"The request target is longer than {MAX_TARGET} bytes.", 431)
    if version != "1.1" and version != "1.0":
        raise invalid("Only HTTP/1.1 and HTTP/1.0 are supported.")
    if (target[:1] != b"/" and target != b"*") or FRAGMENT in target or not target.isascii():
        raise invalid("The request target must be a path, without scheme, host or fragment.")
    if len(fields) != len(headers):
        _refuse_doubles(headers)
    if b"host" not in fields and version == "1.1":
        raise invalid("The Host header is missing.")
    coding = fields.get(b"transfer-encoding")
    if coding is not None and (version == "1.0" or coding.lower() != b"chunked"):
        raise invalid("The only supported transfer-encoding is chunked, in HTTP/1.1.")


def check_host(host: bytes) -> None:
    """Raises `SluiceError` (400) for anything but a host with an optional port."""
    if HOST.fullmatch(host) is None:
        raise invalid("The Host header is not a host with an optional port.")


def check_size(target: bytes, headers: Headers) -> None:
    """Raises `SluiceError` (431) if the head, as far as received, is larger than MAX_HEAD bytes."""
    if len(target) + sum(len(name) + len(value) + 4 for name, value in headers) > MAX_HEAD:
        raise head_too_large()


def head_too_large() -> SluiceError:
    """The error of a head that is too large."""
    return invalid(f"The request head is larger than {MAX_HEAD} bytes.", 431)


def _refuse_doubles(headers: Headers) -> None:
    for name, count in Counter(name for name, _ in headers).items():
        if count > 1 and name in SINGLE:
            raise invalid(f"The {name.decode('ascii')} header occurs {count} times.")
