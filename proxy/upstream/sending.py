"""Sends requests to upstreams: a target's request out, the head of its answer back."""

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any, Final

import httpx

from proxy.call import Headers
from proxy.errors import SluiceError
from proxy.instruments import Numbers
from proxy.providers.contract import Answer, Request, Target
from proxy.upstream.bodies import read_whole
from proxy.upstream.border import redirect_error, translate_error
from proxy.upstream.client import Client, Response, Whole
from proxy.upstream.dialing import trust

MAX_ANSWER: Final = 32 * 1024 * 1024  # largest answer of the control plane in bytes
_LIMITS: Final = httpx.Limits(max_connections=4096, max_keepalive_connections=256, keepalive_expiry=4.0)  # as our own
_FAREWELL: Final = 5.0  # seconds for background work to finish at shutdown


class Upstreams:
    """Sends requests to a Target's address with its own key: no key can reach another provider's address."""

    def __init__(self) -> None:
        self.sent = Numbers()  # attempts by upstream
        self.client = Client()
        self._transports: dict[str, httpx.AsyncBaseTransport] = {}  # of httpx, by a target's `via`
        self._later: set[asyncio.Task[Any]] = set()

    def send(self, target: Target, request: Request, connect: float) -> Awaitable[Response]:
        """The head of the target's answer, with any status but a redirect; `connect`: seconds to get a connection.

        Raises SluiceError. There is no other timeout: callers cancel, which closes the connection.
        """
        self.sent[target.upstream].value += 1
        return self.ask(target, request, connect)

    def ask(self, target: Target, request: Request, connect: float) -> Awaitable[Response]:
        """The same for a further request of an attempt that has been counted already."""
        headers = _headers(target, request) if target.headers else request.headers
        if target.via:
            return self._by_httpx(target, request, headers, connect)
        url = target.base + request.path
        return self.client.ask(request.method, url, headers, request.body, connect, target.upstream)

    async def fetch(self, target: Target, request: Request, timeout: float) -> Answer:
        """A whole answer for the control plane (catalogues, health), within `timeout` seconds in total.

        Raises SluiceError. Not counted as an attempt.
        """
        try:
            async with asyncio.timeout(timeout):
                response = await self.ask(target, request, timeout)
                try:
                    body = await read_whole(response.stream, target.upstream, MAX_ANSWER)
                finally:
                    await response.stream.aclose()
        except TimeoutError:
            text = f'The upstream "{target.upstream}" did not answer in time.'
            raise SluiceError("upstream_timeout", text, again="next") from None
        return Answer(response.status_code, response.headers, body)

    def later(self, work: Coroutine[Any, Any, Any]) -> None:
        """Runs background work that nobody waits for, and keeps a reference to it."""
        task = asyncio.create_task(work)
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    async def aclose(self) -> None:
        """Ends the background work, then closes all connections."""
        if self._later:
            _, late = await asyncio.wait(self._later, timeout=_FAREWELL)
            for task in late:
                task.cancel()
        for transport in self._transports.values():
            await transport.aclose()
        await self.client.aclose()

    async def _by_httpx(self, target: Target, request: Request, headers: Headers, connect: float) -> Response:
        transport = self._transports.get(target.via)
        if transport is None:
            transport = self._transports[target.via] = transport_for(target.via)
        try:
            response = await self._through(transport, target, request, headers, connect)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise translate_error(error, target.upstream, answered=False) from None
        if 300 <= response.status_code < 400:
            await response.stream.aclose()
            raise redirect_error(target.upstream)
        return response

    async def _through(
        self, transport: httpx.AsyncBaseTransport, target: Target, request: Request, headers: Headers, connect: float
    ) -> Response:
        url = httpx.URL(target.base + request.path)
        own = [(b"host", url.netloc), (b"accept-encoding", b"identity")]
        if request.body or request.method == "POST":
            own.append((b"content-length", b"%d" % len(request.body)))
        response = await transport.handle_async_request(
            httpx.Request(
                request.method,
                url,
                headers=[*own, *headers],
                stream=Whole(request.body),
                extensions={"timeout": {"connect": connect, "pool": connect}},
            )
        )
        assert isinstance(response.stream, httpx.AsyncByteStream)
        if response.headers.get("content-encoding", "identity") != "identity":
            await response.stream.aclose()
            raise httpx.DecodingError("the answer is compressed although identity was requested")
        lines = [(name.lower(), value) for name, value in response.headers.raw]
        return Response(response.status_code, lines, response.stream)


def transport_for(via: str) -> httpx.AsyncBaseTransport:
    """httpx's transport for HTTP/2 ("h2") or for a forward proxy (its URL). Raises SluiceError without the extra."""
    http2, proxy = (True, None) if via == "h2" else (False, via)
    try:
        if http2:
            import h2  # noqa: F401 - httpx looks for it no sooner than an upstream speaks it
        return httpx.AsyncHTTPTransport(trust(), http2=http2, proxy=proxy, limits=_LIMITS, trust_env=False)
    except ImportError:
        raise SluiceError("upstream_not_configured", "The extra `h2` is not installed.", again="next") from None


def _headers(target: Target, request: Request) -> Headers:
    """The request's headers, and those of the config that the request does not set."""
    said = {name for name, _ in request.headers}
    return [line for line in target.headers if line[0] not in said] + request.headers
