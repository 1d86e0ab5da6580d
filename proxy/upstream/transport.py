"""Our client behind httpx's interface, so that either can stand in the other's place."""

import ssl
from collections.abc import AsyncIterator, Iterator

import httpx

from proxy.upstream.client import Client
from proxy.upstream.pool import Bounds


class BytesBody(httpx.AsyncByteStream, httpx.SyncByteStream):
    """A request's body that is there already: no stream has to be read for it."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __iter__(self) -> Iterator[bytes]:
        yield self.data

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.data


class Http1Transport(httpx.AsyncBaseTransport):
    """The client as one of httpx's transports. Of httpx's timeouts it keeps "connect"."""

    def __init__(self, tls: ssl.SSLContext | None = None, bounds: Bounds | None = None) -> None:
        self._client = Client(tls, bounds)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """See httpx.AsyncBaseTransport and Client.ask."""
        stream = request.stream
        body = stream.data if isinstance(stream, BytesBody) else await request.aread()
        lines = [(name.lower(), value) for name, value in request.headers.raw]
        timeout: dict[str, float | None] = request.extensions.get("timeout", {})
        response = await self._client.ask(request.method, str(request.url), lines, body, timeout.get("connect"))
        return httpx.Response(response.status_code, headers=response.headers, stream=response.stream)

    async def aclose(self) -> None:
        """Closes all connections, those in use as soon as their responses are closed."""
        await self._client.aclose()
