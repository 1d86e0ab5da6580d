"""Serializes response heads; no header value can split a response."""

from http import HTTPStatus
from typing import Final

from proxy.call import Headers
from proxy.errors import SluiceError

PHRASES: Final = {status.value: status.phrase.encode() for status in HTTPStatus}
STATUS_LINES: Final = {
    status: b"HTTP/1.1 %d %b" % (status, PHRASES.get(status, b"Unknown")) for status in range(100, 600)
}
UNSAFE: Final = b"\r\n\0"
_to_spaces: Final = bytes.maketrans(UNSAFE, b"   ")
_line: Final = b": ".join


def response_head(status: int, headers: Headers) -> bytes:
    """Status line and header lines, each with its CRLF, without the empty line. CR, LF and NUL in a header become
    spaces."""
    head = b"\r\n".join([STATUS_LINES[status], *map(_line, headers), b""])
    if len(head.splitlines()) == 1 + len(headers) and head.find(b"\0") < 0:
        return head
    return response_head(status, [(name.translate(_to_spaces), value.translate(_to_spaces)) for name, value in headers])


def error_response(error: SluiceError, request_id: str, default: Headers) -> bytes:
    """A whole response that ends the connection: OpenAI's error JSON. `default`: what every response carries."""
    body = error.body()
    headers = [
        *default,
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"x-request-id", request_id.encode()),
        *error.headers(),
        (b"connection", b"close"),
    ]
    return b"%b\r\n%b" % (response_head(error.status, headers), body)
