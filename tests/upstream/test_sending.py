"""Requests go to the target's address, over any transport, and every failure is a SluiceError."""

import asyncio
import resource
from pathlib import Path
from typing import Any

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import RequestReceived

from proxy.errors import SluiceError
from proxy.providers.contract import Provider, Request, Target
from proxy.upstream.client import Response
from proxy.upstream.sending import MAX_ANSWER, Upstreams
from tests.upstream.conftest import Run, server_side
from tests.upstream.rawserver import HELLO, OK, Peer, Script, answering, serving


def target(base: str, **more: Any) -> Target:
    return Target("east", "model", Provider(), base, "sk-key", **more)


async def read(response: Response) -> bytes:
    try:
        return b"".join([piece async for piece in response.stream])
    finally:
        await response.stream.aclose()


def echoing(seen: list[bytes]) -> Script:
    async def script(peer: Peer) -> None:
        while request := await peer.request():
            seen.append(request)
            await peer.send(HELLO)

    return script


def test_the_request_goes_to_the_target_and_is_counted(run: Run) -> None:
    async def main() -> None:
        seen: list[bytes] = []
        async with serving(echoing(seen)) as server:
            upstreams = Upstreams()
            place = target(server.url + "/v1", headers=((b"x-team", b"search"), (b"x-own", b"config")))
            request = Request(
                "/chat/completions", b"{}", headers=[(b"authorization", b"Bearer k"), (b"x-own", b"call")]
            )
            for _ in range(3):
                response = await upstreams.send(place, request, 5)
                assert (response.status_code, await read(response)) == (200, b"hello")
            assert seen[0].startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
            assert b"\r\nx-team: search\r\nauthorization: Bearer k\r\nx-own: call\r\n" in seen[0]
            assert b"config" not in seen[0]
            assert upstreams.sent.totals() == {"east": 3}
            assert server.connections == 1
            await upstreams.aclose()

    run(main())


def test_attempts_that_fail_are_counted_and_named(run: Run) -> None:
    async def main() -> None:
        async with serving(answering(HELLO)) as server:
            pass
        upstreams = Upstreams()
        with pytest.raises(SluiceError) as caught:
            await upstreams.send(target(server.url), Request("/x"), 5)
        assert caught.value.code == "upstream_unreachable"
        assert caught.value.again == "same"
        assert str(server.port) not in caught.value.message
        assert upstreams.sent.totals() == {"east": 1}

    run(main())


@pytest.mark.parametrize("via", ["", "h2", "http://127.0.0.1:1"], ids=["own", "httpx", "proxy"])
def test_no_upstream_is_blamed_for_files_that_this_process_lacks(run: Run, via: str) -> None:
    async def main() -> None:
        upstreams, place, codes = Upstreams(), target("http://127.0.0.1:1", via=via), []
        allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
        try:
            for most in (allowed[0], 0):  # what is imported is imported by the first
                resource.setrlimit(resource.RLIMIT_NOFILE, (most, allowed[1]))
                with pytest.raises(SluiceError) as caught:
                    await upstreams.send(place, Request("/x"), 5)
                codes.append(caught.value.code)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, allowed)
        assert codes == ["upstream_unreachable", "proxy_overloaded"]
        await upstreams.aclose()

    run(main())


@pytest.mark.parametrize(
    "answer,code",
    [
        (b"", "upstream_unreachable"),
        (b"HTTP/1.1 200", "upstream_unreachable"),
        (b"rubbish\r\n\r\n", "upstream_malformed"),
        (b"HTTP/1.1 307 Go\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n", "upstream_error"),
        (OK + b"content-encoding: br\r\ncontent-length: 0\r\n\r\n", "upstream_malformed"),
    ],
)
@pytest.mark.parametrize("via", ["", "h2"], ids=["own", "httpx"])
def test_answers_that_are_none(run: Run, answer: bytes, code: str, via: str) -> None:
    async def once(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer)

    async def main() -> None:
        async with serving(once) as server:
            upstreams = Upstreams()
            with pytest.raises(SluiceError) as caught:
                await upstreams.send(target(server.url, via=via), Request("/x", b"{}"), 5)
            assert caught.value.code == code
            assert server.connections == 1
            await upstreams.aclose()

    run(main())


def test_an_unusable_header_or_address_is_an_error_of_ours(run: Run) -> None:
    async def main() -> None:
        async with serving(answering(HELLO)) as server:
            upstreams = Upstreams()
            with pytest.raises(SluiceError, match="client_invalid_request"):
                await upstreams.send(target(server.url), Request("/x", headers=[(b"x", b"a\nb")]), 5)
            for base in ("http://[", "nowhere", "http://127.0.0.1:port"):
                with pytest.raises(SluiceError, match="upstream_unreachable"):
                    await upstreams.send(target(base), Request("/x"), 5)
            assert server.connections == 0

    run(main())


def test_a_target_behind_a_forward_proxy_is_asked_through_it(run: Run) -> None:
    async def main() -> None:
        seen: list[bytes] = []
        async with serving(echoing(seen)) as forward:
            upstreams = Upstreams()
            place = target("http://upstream.invalid/v1", via=forward.url)
            response = await upstreams.send(place, Request("/chat", b"{}", headers=[(b"x-a", b"1")]), 5)
            assert await read(response) == b"hello"
            assert response.headers == [(b"content-length", b"5")]
            assert seen[0].startswith(b"POST http://upstream.invalid/v1/chat HTTP/1.1\r\n")
            assert b"host: upstream.invalid\r\naccept-encoding: identity\r\ncontent-length: 2\r\n" in seen[0].lower()
            answer = await upstreams.fetch(place, Request("/models", method="GET"), 5)
            assert answer.body == b"hello"
            assert upstreams.sent.totals() == {"east": 1}
            await upstreams.aclose()

    run(main())


async def http2(peer: Peer) -> None:
    """Answers each HTTP/2 request with its headers as the body."""
    state = H2Connection(H2Configuration(client_side=False))
    state.initiate_connection()
    while True:
        peer.writer.write(state.data_to_send())
        data = await peer.reader.read(65536)
        if not data:
            return
        for event in state.receive_data(data):
            if isinstance(event, RequestReceived) and event.stream_id is not None:
                seen = repr(event.headers).encode()
                state.send_headers(event.stream_id, [(":status", "200"), ("content-length", str(len(seen)))])
                state.send_data(event.stream_id, seen, end_stream=True)


def test_a_target_is_asked_by_http2(run: Run, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        tls = server_side(certificate)
        tls.set_alpn_protocols(["h2"])
        async with serving(http2, tls) as server:
            upstreams = Upstreams()
            place = target(f"https://localhost:{server.port}/v1", via="h2")
            for _ in range(3):
                response = await upstreams.send(place, Request("/chat", b"{}", headers=[(b"x-a", b"1")]), 5)
                seen = await read(response)
                assert b"(b':path', b'/v1/chat')" in seen
                assert b"(b'x-a', b'1')" in seen
            assert server.connections == 1
            await upstreams.aclose()

    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    run(main())


def test_fetch_gives_a_whole_answer_of_any_status(run: Run) -> None:
    async def main() -> None:
        async with serving(answering(b"HTTP/1.1 401 No\r\nX-Y: z\r\ncontent-length: 2\r\n\r\nno")) as server:
            upstreams = Upstreams()
            answer = await upstreams.fetch(target(server.url), Request("/models", method="GET"), 5)
            assert (answer.status, answer.headers[0], answer.body) == (401, (b"x-y", b"z"), b"no")
            assert upstreams.sent.totals() == {}
            await upstreams.aclose()

    run(main())


def test_fetch_ends_in_time_and_at_its_limit(run: Run) -> None:
    async def silent(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK + b"content-length: 5\r\n\r\nhel")
        await peer.left()

    async def huge(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK + b"\r\n")
        while True:
            await peer.send(b"x" * 65536)

    async def cut(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK + b"content-length: 5\r\n\r\nhel")

    async def main() -> None:
        assert MAX_ANSWER == 32 * 1024 * 1024
        upstreams = Upstreams()
        for script, seconds, code in (
            (silent, 0.1, "upstream_timeout"),
            (huge, 20, "upstream_malformed"),
            (cut, 5, "upstream_truncated"),
        ):
            async with serving(script) as server:
                with pytest.raises(SluiceError) as caught:
                    await upstreams.fetch(target(server.url), Request("/models", method="GET"), seconds)
                assert caught.value.code == code
        await upstreams.aclose()

    run(main())


def test_work_that_nobody_waits_for_is_done_before_the_end(run: Run) -> None:
    async def main() -> None:
        done: list[int] = []

        async def work() -> None:
            await asyncio.sleep(0.02)
            done.append(1)

        upstreams = Upstreams()
        upstreams.later(work())
        upstreams.later(work())
        await upstreams.aclose()
        assert done == [1, 1]

    run(main())
