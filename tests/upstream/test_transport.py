"""Our client is one of httpx's transports."""

from collections.abc import AsyncIterator

import httpx
import pytest

from proxy.upstream.transport import Http1Transport
from tests.upstream.conftest import Run
from tests.upstream.rawserver import HELLO, Peer, answering, serving


def test_an_httpx_client_works_over_it(run: Run) -> None:
    async def main() -> None:
        async with serving(answering(HELLO)) as server, httpx.AsyncClient(transport=Http1Transport()) as client:
            response = await client.post(server.url + "/x?y=1", json={"a": 1}, headers={"X-Key": "k"})
            assert (response.status_code, response.text) == (200, "hello")
            async with client.stream("GET", server.url) as streamed:
                assert b"".join([piece async for piece in streamed.aiter_bytes()]) == b"hello"
            assert server.connections == 1

    run(main())


@pytest.mark.parametrize("streamed", [False, True])
def test_bodies_of_any_kind_are_sent_with_their_length(run: Run, streamed: bool) -> None:
    class Stream(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"one "
            yield b"two"

    async def main() -> None:
        seen: list[bytes] = []

        async def keep(peer: Peer) -> None:
            seen.append(await peer.request())
            await peer.send(HELLO)

        async with serving(keep) as server:
            transport = Http1Transport()
            body = Stream() if streamed else b"one two"
            request = httpx.Request("POST", server.url + "/", headers=[(b"X-Upper", b"1")], content=body)
            response = await transport.handle_async_request(request)
            assert await response.aread() == b"hello"
            assert seen[0].endswith(b"\r\nx-upper: 1\r\ncontent-length: 7\r\n\r\none two")
            await transport.aclose()

    run(main())


def test_the_connect_timeout_is_kept_and_redirects_are_given_as_they_are(run: Run) -> None:
    async def main() -> None:
        redirect = b"HTTP/1.1 302 Found\r\nlocation: http://evil/\r\ncontent-length: 0\r\n\r\n"
        async with serving(answering(redirect)) as server:
            transport = Http1Transport()
            request = httpx.Request("GET", server.url, extensions={"timeout": {"connect": 0.0}})
            with pytest.raises(httpx.ConnectTimeout):
                await transport.handle_async_request(request)
            response = await transport.handle_async_request(httpx.Request("GET", server.url))
            assert (response.status_code, response.headers["location"]) == (302, "http://evil/")
            await response.aclose()
            await transport.aclose()

    run(main())
