"""Our HTTP/1.1 client: sends a request over a kept-alive connection and returns the response's head."""

import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final

import httpx

from proxy.call import Headers
from proxy.headers import Lines
from proxy.instruments import Numbers
from proxy.upstream.border import redirect_error, translate_error
from proxy.upstream.connection import Connection
from proxy.upstream.dialing import trust
from proxy.upstream.pool import Bounds, Origin

KNOWN_URLS: Final = 1024  # for which the first lines of a request are cached

# Not allowed in headers (RFC 9110, 5.5). That names are tokens is checked when they are received.
_CONTROLS: Final = bytes(code for code in (*range(32), 127) if code != 9)
_OURS: Final = frozenset(
    (b"host", b"content-length", b"transfer-encoding", b"connection", b"keep-alive", b"accept-encoding", b"expect")
)
_WITH_BODY: Final = frozenset(("POST", "PUT", "PATCH"))


@dataclass(slots=True)
class Response:
    """A response whose head has arrived.

    Its owner takes `body` if it is complete already, else iterates over `stream` and closes that.
    """

    status_code: int
    headers: Headers  # lower-case names
    coming: httpx.AsyncByteStream | None  # the rest of the body; None: it is complete
    body: bytes | None = None

    @property
    def stream(self) -> httpx.AsyncByteStream:
        """The body, in either case."""
        return self.coming or Whole(self.body or b"")


class Whole(httpx.AsyncByteStream):
    """A body that has arrived completely."""

    __slots__ = ("_body",)

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._body:
            yield self._body


class Body(httpx.AsyncByteStream):
    """A response's body as it arrives: each step gives all bytes received since the last."""

    __slots__ = ("_connection", "_origin")

    def __init__(self, connection: Connection, origin: Origin) -> None:
        self._connection: Connection | None = connection
        self._origin = origin

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    def pass_to(self, taker: Callable[[bytes], bool] | None) -> None:
        """The taker gets what arrives while the next batch is awaited; it returns whether to keep waiting."""
        if self._connection is not None:
            self._connection.pass_to(taker)

    async def __anext__(self) -> bytes:
        """The next batch (b"": the taker got it).

        Raises httpx.RemoteProtocolError or ReadError if the body is cut off.
        """
        connection = self._connection
        if connection is None:
            raise httpx.StreamClosed()
        while not (data := connection.read_available()):
            if connection.parser.complete:
                raise StopAsyncIteration
            if await connection.readable():
                return b""
        return data

    async def aclose(self) -> None:
        """Returns the connection to the pool if the body has ended, else closes it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._origin.give(connection)


class Client:
    """Sends requests to any origin. Answers are not decoded and redirects not followed.

    `resent` counts, by upstream, requests that were sent again since a kept-alive connection was closed. Its only
    timeout is for getting a connection. Callers cancel instead, which closes the connection at any await.
    """

    def __init__(self, tls: ssl.SSLContext | None = None, bounds: Bounds | None = None) -> None:
        self._tls = tls
        self._bounds = bounds or Bounds()
        self.resent = Numbers()
        self.origins: dict[tuple[str, str, int], Origin] = {}
        self.starts: dict[tuple[str, str], tuple[Origin, bytes]] = {}

    async def ask(
        self, method: str, url: str, headers: Headers, body: bytes, connect: float | None, upstream: str = ""
    ) -> Response:
        """The response's status, headers and unread body; `connect`: seconds for getting a connection.

        `url`: absolute, encoded. `headers`: lower-case names; connection headers are removed. Raises subclasses of
        httpx.TransportError (LocalProtocolError before anything is sent), InvalidURL and DecodingError; if an
        `upstream` is named, SluiceError instead, and for redirects.
        """
        connection: Connection | None = None
        try:
            origin, start = self.starts.get((method, url)) or self._start(method, url)
            lines = headers.worked.get("encoded") if isinstance(headers, Lines) else None
            head = start + (encode_headers(headers) if lines is None else lines)
            if body or method in _WITH_BODY:
                head += b"content-length: %d\r\n\r\n" % len(body)
            else:
                head += b"\r\n"
            connection = origin.take() or await origin.open(connect)
            try:
                await connection.exchange(head, body, method == "HEAD")
            except (httpx.NetworkError, httpx.RemoteProtocolError):
                if connection.exchanges == 1 or connection.response_begun:
                    raise
                # The upstream closed the kept-alive connection just as we reused it.
                connection.abort()
                connection = await origin.open(connect)
                self.resent[upstream].value += 1
                await connection.exchange(head, body, method == "HEAD")
            parser = connection.parser
            if parser.encoding and parser.encoding.lower() != b"identity":
                raise httpx.DecodingError("the answer is compressed although identity was requested")
            if upstream and 300 <= parser.status < 400:
                raise redirect_error(upstream)
        except BaseException as error:
            if connection is not None:
                connection.abort()
            if upstream and isinstance(error, httpx.HTTPError | httpx.InvalidURL):
                raise translate_error(error, upstream, answered=False) from None
            raise
        if not parser.complete:
            return Response(parser.status, parser.headers, Body(connection, origin))
        whole = connection.read_available()
        response = Response(parser.status, parser.headers, None, whole)
        origin.give(connection)
        return response

    async def aclose(self) -> None:
        """Closes all connections, those in use as soon as their responses are closed."""
        for origin in self.origins.values():
            origin.close()

    def _start(self, method: str, address: str) -> tuple[Origin, bytes]:
        """The origin of a URL, and the first lines of requests to it."""
        url = httpx.URL(address)
        if url.scheme not in ("http", "https") or not url.host:
            raise httpx.UnsupportedProtocol("only http:// and https:// addresses with a host can be asked")
        place = (url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80))
        origin = self.origins.get(place)
        if origin is None:
            origin = self.origins[place] = Origin(place[1], place[2], self._security(url.scheme), self._bounds)
        start = b"%b %b HTTP/1.1\r\nhost: %b\r\naccept-encoding: identity\r\n" % (
            method.encode("ascii"),
            url.raw_path,
            url.netloc,
        )
        if len(self.starts) >= KNOWN_URLS:
            self.starts.clear()
        self.starts[method, address] = origin, start
        return origin, start

    def _security(self, scheme: str) -> ssl.SSLContext | None:
        if scheme == "http":
            return None
        if self._tls is None:
            self._tls = trust()
        return self._tls


def encode_headers(headers: Headers) -> bytes:
    """The lines as sent, cached with them where possible. Raises httpx.LocalProtocolError."""
    each = [b": ".join(line) for line in headers if line[0] not in _OURS]
    each.append(b"")
    lines = b"\r\n".join(each)
    if len(lines) - len(lines.translate(None, _CONTROLS)) != 2 * len(each) - 2:  # more than our own line ends
        raise httpx.LocalProtocolError("a header to send has forbidden characters")
    if isinstance(headers, Lines):
        headers.worked["encoded"] = lines
    return lines
