"""Our own HTTP/1.1 client, as one of httpx's transports."""

import re
import ssl
from collections.abc import AsyncIterator, Iterator
from typing import Final

import httpx

from proxy.upstream.connection import Connection
from proxy.upstream.dialing import trust
from proxy.upstream.pool import Bounds, Origin

KNOWN_URLS: Final = 1024  # for which the first lines of a request are kept

# Lines of a request's head (RFC 9110, 5.1 and 5.5): a token, then any visible characters, spaces, tabs and obs-text.
_LINES: Final = re.compile(rb"(?>[!#$%&'*+\-.^_`|~0-9A-Za-z]+: [^\x00-\x08\x0a-\x1f\x7f]*\r\n)*+")
_OURS: Final = frozenset(
    (b"host", b"content-length", b"transfer-encoding", b"connection", b"keep-alive", b"accept-encoding", b"expect")
)
_WITH_BODY: Final = frozenset(("POST", "PUT", "PATCH"))


class BytesBody(httpx.AsyncByteStream, httpx.SyncByteStream):
    """A request's body that is there already; it leaves in one write with the head."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __iter__(self) -> Iterator[bytes]:
        yield self.data

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.data


class ResponseBody(httpx.AsyncByteStream):
    """A response's body as it arrives: each step gives all that is there."""

    def __init__(self, connection: Connection, origin: Origin) -> None:
        self._connection: Connection | None = connection
        self._origin = origin

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        """The next batch. Raises httpx.RemoteProtocolError or ReadError where the body is cut."""
        if self._connection is None:
            raise httpx.StreamClosed()
        data = await self._connection.read()
        if not data:
            raise StopAsyncIteration
        return data

    async def aclose(self) -> None:
        """Gives the connection back if the body was read to its end, else closes it at once."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._origin.give(connection)


class Http1Transport(httpx.AsyncBaseTransport):
    """Requests over kept connections. Answers are never decoded and redirects never followed.

    Of httpx's timeouts only "connect" is kept here, over all it takes to get a connection. The others are the caller's,
    by cancelling: at any await that closes the connection. The caller closes the response's stream.
    """

    def __init__(self, tls: ssl.SSLContext | None = None, bounds: Bounds | None = None) -> None:
        self._tls = tls
        self._bounds = bounds or Bounds()
        self._origins: dict[tuple[str, str, int], Origin] = {}
        self._starts: dict[tuple[str, str], tuple[Origin, bytes]] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """The response's status, headers and unread body. Raises httpx.TransportError's children and DecodingError."""
        stream = request.stream
        body = stream.data if isinstance(stream, BytesBody) else await request.aread()
        origin, start = self._starts.get((request.method, str(request.url))) or self._start(request)
        head = _head(start, request, len(body))
        connection = origin.take()
        if connection is None:
            connection = await origin.open(_connect_seconds(request))
        try:
            await connection.exchange(head, body, request.method == "HEAD")
        except (httpx.NetworkError, httpx.RemoteProtocolError):
            if connection.served == 1 or connection.touched:
                raise
            # The upstream closed a kept connection just when we used it again.
            connection = await origin.open(_connect_seconds(request))
            await connection.exchange(head, body, request.method == "HEAD")
        parser = connection.parser
        if parser.encoding and parser.encoding.lower() != b"identity":
            connection.abort()
            raise httpx.DecodingError("the answer is encoded although identity was asked for")
        return httpx.Response(parser.status, headers=parser.headers, stream=ResponseBody(connection, origin))

    async def aclose(self) -> None:
        """Closes all connections, those in use as soon as their responses are closed."""
        for origin in self._origins.values():
            origin.close()

    def _start(self, request: httpx.Request) -> tuple[Origin, bytes]:
        """Where a URL leads, and the lines that its requests begin with."""
        url = request.url
        if url.scheme not in ("http", "https") or not url.host:
            raise httpx.UnsupportedProtocol("only http:// and https:// addresses with a host can be asked")
        port = url.port or (443 if url.scheme == "https" else 80)
        place = (url.scheme, url.host, port)
        origin = self._origins.get(place)
        if origin is None:
            if url.scheme == "https" and self._tls is None:
                self._tls = trust()
            origin = Origin(url.host, port, self._tls if url.scheme == "https" else None, self._bounds)
            self._origins[place] = origin
        start = b"%b %b HTTP/1.1\r\nhost: %b\r\naccept-encoding: identity\r\n" % (
            request.method.encode("ascii"),
            url.raw_path,
            url.netloc,
        )
        if len(self._starts) >= KNOWN_URLS:
            self._starts.clear()
        self._starts[request.method, str(url)] = origin, start
        return origin, start


def _head(start: bytes, request: httpx.Request, length: int) -> bytes:
    lines = b"".join([b"%b: %b\r\n" % line for line in request.headers.raw if line[0].lower() not in _OURS])
    if _LINES.fullmatch(lines) is None:
        raise httpx.LocalProtocolError("a header to send has forbidden characters")
    if length or request.method in _WITH_BODY:
        return b"%b%bcontent-length: %d\r\n\r\n" % (start, lines, length)
    return b"%b%b\r\n" % (start, lines)


def _connect_seconds(request: httpx.Request) -> float | None:
    timeout: dict[str, float | None] = request.extensions.get("timeout", {})
    return timeout.get("connect")
