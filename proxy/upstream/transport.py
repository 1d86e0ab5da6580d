"""Our client behind httpx's interface: for an `httpx.AsyncClient`, and wherever one of httpx's transports may stand."""

import ssl

import httpx

from proxy.upstream.client import Client
from proxy.upstream.pool import Bounds


class Http1Transport(httpx.AsyncBaseTransport):
    """The client as one of httpx's transports. Of httpx's timeouts it keeps "connect".

    Calls go by the client itself (`sending.py`): to build httpx's requests would cost them more than all the rest here.
    """

    def __init__(self, tls: ssl.SSLContext | None = None, bounds: Bounds | None = None) -> None:
        self._client = Client(tls, bounds)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """See httpx.AsyncBaseTransport and Client.ask."""
        lines = [(name.lower(), value) for name, value in request.headers.raw]
        timeout: dict[str, float | None] = request.extensions.get("timeout", {})
        answer = await self._client.ask(
            request.method, str(request.url), lines, await request.aread(), timeout.get("connect")
        )
        return httpx.Response(answer.status_code, headers=answer.headers, stream=answer.stream)

    async def aclose(self) -> None:
        """Closes all connections, those in use as soon as their responses are closed."""
        await self._client.aclose()
