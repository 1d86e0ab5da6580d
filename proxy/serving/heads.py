"""Response heads as bytes; no header value can split a response."""

import re
from http import HTTPStatus
from typing import Final
from uuid import uuid4

from proxy.call import Headers
from proxy.errors import SluiceError

PHRASES: Final = {status.value: status.phrase.encode() for status in HTTPStatus}
STATUS_LINES: Final = {
    status: b"HTTP/1.1 %d %b\r\n" % (status, PHRASES.get(status, b"Unknown")) for status in range(100, 600)
}
SANE_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,128}")
UNSAFE: Final = re.compile(rb"[\r\n\0]")
_line: Final = b"%b: %b\r\n".__mod__


def response_head(status: int, headers: Headers) -> bytes:
    """Status line and header lines, each with its CRLF, without the empty line. Header pairs are tuples, names lower
    case (ASGI); CR, LF and NUL in them become spaces."""
    head = STATUS_LINES[status] + b"".join(map(_line, headers))
    lines = len(headers) + 1
    # Each line brings one CR and one LF of ours; one more of either is somebody else's.
    if head.count(b"\n") != lines or head.count(b"\r") != lines or b"\0" in head:
        clean = [(UNSAFE.sub(b" ", name), UNSAFE.sub(b" ", value)) for name, value in headers]
        head = STATUS_LINES[status] + b"".join(map(_line, clean))
    return head


def error_response(error: SluiceError, request_id: bytes, default: Headers) -> bytes:
    """A whole response that ends the connection: OpenAI's error JSON. `default`: what every response carries."""
    body = error.body()
    headers = [
        *default,
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"x-request-id", request_id),
        *error.headers(),
        (b"connection", b"close"),
    ]
    return b"%b\r\n%b" % (response_head(error.status, headers), body)


def request_id(headers: Headers) -> bytes:
    """The client's own x-request-id if it is a plain word of at most 128 characters, else a new one."""
    shown = next((value for name, value in headers if name == b"x-request-id"), b"")
    return shown if SANE_ID.fullmatch(shown) else uuid4().hex.encode()
