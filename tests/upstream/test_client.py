"""Our HTTP/1.1 client against servers that behave, and servers that do not."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import httpx
import pytest

from proxy.call import Headers
from proxy.upstream.client import Client, Response
from proxy.upstream.pool import Bounds
from tests.upstream.conftest import Run
from tests.upstream.rawserver import HELLO, OK, Peer, RawServer, Script, answering, open_files, serving
from tests.waiting import until


@asynccontextmanager
async def asking(script: Script) -> AsyncIterator[tuple[Client, RawServer]]:
    client = Client()
    async with serving(script) as server:
        try:
            yield client, server
        finally:
            await client.aclose()


Outgoing = tuple[str, str, Headers, bytes]


def post(server: RawServer, body: bytes = b"{}", headers: Headers | None = None, path: str = "/v1/chat") -> Outgoing:
    return "POST", server.url + path, headers or [], body


async def whole(response: Response) -> bytes:
    try:
        return b"".join([piece async for piece in response.stream])
    finally:
        await response.stream.aclose()


async def whole_answer(client: Client, request: Outgoing) -> bytes:
    return await whole(await client.ask(*request, 5))


def test_a_request_leaves_as_it_should(run: Run) -> None:
    async def kept(peer: Peer) -> None:
        seen.append(await peer.request())
        await peer.send(HELLO)

    async def main() -> None:
        async with asking(kept) as (client, server):
            headers = [
                (b"x-a", b"1"),
                (b"host", b"evil"),
                (b"content-length", b"9"),
                (b"transfer-encoding", b"chunked"),
            ]
            response = await client.ask(*post(server, b'{"a": 1}', headers, "/v1/x%20y?q=1"), 5)
            assert (response.status_code, response.headers) == (200, [(b"content-length", b"5")])
            assert await whole(response) == b"hello"
            assert seen == [
                b"POST /v1/x%20y?q=1 HTTP/1.1\r\nhost: 127.0.0.1:" + str(server.port).encode() + b"\r\n"
                b'accept-encoding: identity\r\nx-a: 1\r\ncontent-length: 8\r\n\r\n{"a": 1}'
            ]

    seen: list[bytes] = []
    run(main())


@pytest.mark.parametrize("method,length", [("GET", False), ("DELETE", False), ("POST", True)])
def test_only_requests_that_can_have_a_body_say_how_long_it_is(run: Run, method: str, length: bool) -> None:
    async def echo(peer: Peer) -> None:
        seen = await peer.request()
        await peer.send(OK + b"content-length: %d\r\n\r\n%b" % (len(seen), seen))

    async def main() -> None:
        async with asking(echo) as (client, server):
            seen = await whole_answer(client, (method, server.url + "/", [], b""))
            assert (b"content-length: 0" in seen) is length

    run(main())


def test_large_bodies_arrive_whole_in_both_directions(run: Run) -> None:
    async def measure(peer: Peer) -> None:
        while seen := await peer.request():
            body = seen.partition(b"\r\n\r\n")[2]
            await peer.send(OK + b"content-length: %d\r\n\r\n%b" % (len(body), body))

    async def main() -> None:
        async with asking(measure) as (client, server):
            for size in (1, 65_536, 65_537, 5_000_000):
                body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
                assert await whole_answer(client, post(server, body)) == body
            assert server.connections == 1

    run(main())


def test_the_answer_does_not_depend_on_how_the_network_cuts_it(run: Run) -> None:
    answer = OK + b"transfer-encoding: chunked\r\n\r\n6\r\ndata: \r\n3\r\nx\n\n\r\n0\r\n\r\n"

    async def cut_in_two(peer: Peer) -> None:
        for at in range(1, len(answer)):
            await peer.request()
            await peer.send(answer[:at])
            await asyncio.sleep(0.001)
            await peer.send(answer[at:])
        await peer.left()

    async def main() -> None:
        async with asking(cut_in_two) as (client, server):
            for _ in range(1, len(answer)):
                assert await whole_answer(client, post(server)) == b"data: x\n\n"
            assert server.connections == 1

    run(main())


def test_what_arrives_together_is_given_together_and_at_once(run: Run) -> None:
    async def in_steps(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK + b"transfer-encoding: chunked\r\n\r\n" + b"1\r\na\r\n1\r\nb\r\n1\r\nc\r\n")
        await step.wait()
        await peer.send(b"1\r\nd\r\n1\r\ne\r\n0\r\n\r\n")
        await peer.left()

    async def main() -> None:
        async with asking(in_steps) as (client, server):
            response = await client.ask(*post(server), 5)
            pieces = aiter(response.stream)
            assert await anext(pieces) == b"abc"
            step.set()
            assert await anext(pieces) == b"de"
            with pytest.raises(StopAsyncIteration):
                await anext(pieces)
            await response.stream.aclose()

    step = asyncio.Event()
    run(main())


def test_connections_are_used_again(run: Run) -> None:
    async def main() -> None:
        async with asking(answering(HELLO)) as (client, server):
            for _ in range(20):
                assert await whole_answer(client, post(server)) == b"hello"
            assert server.connections == 1

    run(main())


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"connection: close\r\ncontent-length: 5\r\n\r\nhello",
        HELLO + b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
        HELLO + b"garbage",
        b"HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello",
    ],
)
def test_a_connection_that_cannot_be_trusted_is_not_used_again(run: Run, answer: bytes) -> None:
    async def main() -> None:
        async with asking(answering(answer)) as (client, server):
            for used in range(1, 4):
                assert await whole_answer(client, post(server)) == b"hello"
                assert server.connections == used

    run(main())


def test_bytes_that_nobody_asked_for_close_an_idle_connection(run: Run) -> None:
    async def talkative(peer: Peer) -> None:
        await peer.request()
        await peer.send(HELLO)
        await asked.wait()
        await peer.send(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n")
        await peer.left()
        closed.set()

    async def main() -> None:
        async with asking(talkative) as (client, server):
            await whole_answer(client, post(server))
            asked.set()
            await closed.wait()
            assert await whole_answer(client, post(server)) == b"hello"
            assert server.connections == 2

    asked, closed = asyncio.Event(), asyncio.Event()
    run(main())


def test_a_body_that_ends_with_the_connection_is_whole(run: Run) -> None:
    async def closing(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK + b"\r\nall of ")
        await asyncio.sleep(0.01)
        await peer.send(b"it")

    async def main() -> None:
        async with asking(closing) as (client, server):
            assert await whole_answer(client, post(server)) == b"all of it"

    run(main())


def test_head_has_no_body(run: Run) -> None:
    async def main() -> None:
        async with asking(answering(OK + b"content-length: 500\r\n\r\n")) as (client, server):
            assert await whole_answer(client, ("HEAD", server.url + "/", [], b"")) == b""

    run(main())


ANSWER = OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_an_answer_cut_at_any_byte_is_an_error(run: Run, reset: bool) -> None:
    async def cutting(peer: Peer) -> None:
        await peer.request()
        await peer.send(ANSWER[: peer.number - 1])
        if reset:
            await asyncio.sleep(0.002)
            peer.reset()

    async def main() -> None:
        async with asking(cutting) as (client, server):
            for cut in range(len(ANSWER)):
                head_came = cut >= ANSWER.index(b"\r\n\r\n") + 4
                expected = httpx.ReadError if reset else httpx.RemoteProtocolError
                with pytest.raises(expected) as caught:
                    await whole_answer(client, post(server))
                if not reset:
                    assert str(caught.value).endswith("in mid-body" if head_came else "before headers")
            assert server.connections == len(ANSWER)

    run(main())


def test_what_came_before_the_cut_is_given_before_the_error(run: Run) -> None:
    async def cutting(peer: Peer) -> None:
        await peer.request()
        await peer.send(ANSWER[:-5])

    async def main() -> None:
        async with asking(cutting) as (client, server):
            response = await client.ask(*post(server), 5)
            pieces = aiter(response.stream)
            assert await anext(pieces) == b"hello"
            for _ in range(2):
                with pytest.raises(httpx.RemoteProtocolError, match="in mid-body"):
                    await anext(pieces)
            await response.stream.aclose()
            await response.stream.aclose()
            with pytest.raises(httpx.StreamClosed):
                await anext(pieces)

    run(main())


@pytest.mark.parametrize(
    "rubbish", [b"<html>\r\n\r\n", b"\0\0\0", OK + b"content-length: 1\r\ncontent-length: 2\r\n\r\n"]
)
def test_rubbish_is_an_error_and_costs_the_connection(run: Run, rubbish: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(rubbish)
        await peer.left()

    async def main() -> None:
        async with asking(script) as (client, server):
            for used in range(1, 3):
                with pytest.raises(httpx.RemoteProtocolError, match="malformed|no HTTP"):
                    await whole_answer(client, post(server))
                assert server.connections == used

    run(main())


def test_an_encoded_answer_is_refused(run: Run) -> None:
    async def main() -> None:
        gzipped = OK + b"content-encoding: gzip\r\ncontent-length: 5\r\n\r\nhello"
        plain = OK + b"content-encoding: Identity\r\ncontent-length: 5\r\n\r\nhello"
        async with asking(answering(gzipped)) as (client, server):
            with pytest.raises(httpx.DecodingError):
                await client.ask(*post(server), 5)
        async with asking(answering(plain)) as (client, server):
            assert await whole_answer(client, post(server)) == b"hello"

    run(main())


@pytest.mark.parametrize("how", ["closed", "reset"])
def test_a_kept_connection_that_closes_as_it_is_used_is_replaced_once(run: Run, how: str) -> None:
    async def racing(peer: Peer) -> None:
        await peer.request()
        await peer.send(HELLO)
        if peer.number == 1:
            await peer.request()  # taken, never answered
            if how == "reset":
                peer.reset()

    async def main() -> None:
        async with asking(racing) as (client, server):
            assert await whole_answer(client, post(server)) == b"hello"
            assert not client.resent
            assert await whole(await client.ask(*post(server), 5, "east")) == b"hello"
            assert server.connections == 2
            assert client.resent.totals() == {"east": 1}

    run(main())


def test_a_request_for_which_there_is_no_replacement_is_not_counted_as_sent_again(run: Run) -> None:
    async def racing(peer: Peer) -> None:
        await peer.request()
        await peer.send(HELLO)
        await peer.request()

    async def main() -> None:
        async with asking(racing) as (client, server):
            await whole_answer(client, post(server))
            with pytest.raises(httpx.TimeoutException):
                await client.ask(*post(server), 0)
            assert server.connections == 1
            assert not client.resent.totals()

    run(main())


def test_the_replacement_is_not_replaced(run: Run) -> None:
    async def racing(peer: Peer) -> None:
        await peer.request()
        if peer.number == 1:
            await peer.send(HELLO)
            await peer.request()

    async def main() -> None:
        async with asking(racing) as (client, server):
            await whole_answer(client, post(server))
            with pytest.raises(httpx.RemoteProtocolError, match="before headers"):
                await client.ask(*post(server), 5)
            assert server.connections == 2

    run(main())


@pytest.mark.parametrize("said", [b"H", OK, HELLO[:-1]])
def test_nothing_is_sent_twice_once_a_byte_came_back(run: Run, said: bytes) -> None:
    async def racing(peer: Peer) -> None:
        await peer.request()
        await peer.send(HELLO)
        await peer.request()
        await peer.send(said)

    async def main() -> None:
        async with asking(racing) as (client, server):
            await whole_answer(client, post(server))
            with pytest.raises(httpx.RemoteProtocolError):
                await whole_answer(client, post(server))
            assert server.connections == 1

    run(main())


def test_an_early_answer_is_taken_and_the_half_sent_connection_dropped(run: Run) -> None:
    async def refusing(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.send(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno")
        await taken.wait()

    async def main() -> None:
        async with asking(refusing) as (client, server):
            response = await client.ask(*post(server, b"x" * 50_000_000), 5)
            assert response.status_code == 413
            assert await whole(response) == b"no"
            response = await client.ask(*post(server, b"x" * 50_000_000), 5)
            assert server.connections == 2
            await response.stream.aclose()
            taken.set()

    taken = asyncio.Event()
    run(main())


def test_a_slow_reader_holds_the_upstream_back(run: Run) -> None:
    total, sent = 64 * 1024 * 1024, 0

    async def pouring(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        await peer.send(OK + b"content-length: %d\r\n\r\n" % total)
        while sent < total:
            await peer.send(b"x" * 65536)
            sent += 65536
        await peer.left()

    async def main() -> None:
        async with asking(pouring) as (client, server):
            response = await client.ask(*post(server), 5)
            before = -1
            while sent != before:  # the kernel's buffers fill up, then nothing moves
                before = sent
                await asyncio.sleep(0.1)
            assert sent < 16 * 1024 * 1024
            assert max([len(piece) async for piece in response.stream]) < 1024 * 1024
            assert sent == total
            await response.stream.aclose()

    run(main())


def test_an_unread_body_costs_the_connection_at_once(run: Run) -> None:
    async def endless(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")
        await peer.left()
        left.set()

    async def main() -> None:
        async with asking(endless) as (client, server):
            response = await client.ask(*post(server), 5)
            await response.stream.aclose()
            await left.wait()

    left = asyncio.Event()
    run(main())


PHASES = {"before the head": b"", "within the head": OK, "within the body": OK + b"content-length: 5\r\n\r\nhel"}


@pytest.mark.parametrize("phase", PHASES)
def test_cancelling_closes_the_connection_in_every_phase(run: Run, phase: str) -> None:
    left = 0

    async def stalling(peer: Peer) -> None:
        nonlocal left
        await peer.request()
        await peer.send(PHASES[phase])
        stalled.put_nowait(None)
        await peer.left()
        left += 1

    async def main() -> None:
        async with asking(stalling) as (client, server):
            await asyncio.sleep(0)
            before = open_files()
            for _ in range(20):
                task = asyncio.create_task(whole_answer(client, post(server)))
                await stalled.get()
                await asyncio.sleep(0.002)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            await until(lambda: left == 20)
            await until(lambda: open_files() <= before)

    stalled: asyncio.Queue[None] = asyncio.Queue()
    run(main())


def test_cancelling_at_any_moment_leaves_the_client_sound(run: Run) -> None:
    async def main() -> None:
        async with asking(answering(ANSWER)) as (client, server):
            await whole_answer(client, post(server))
            before = open_files()
            for turns in range(12):
                tasks = [asyncio.create_task(whole_answer(client, post(server))) for _ in range(10)]
                for _ in range(turns):
                    await asyncio.sleep(0)
                for task in tasks[::2]:
                    task.cancel()
                answers = await asyncio.gather(*tasks, return_exceptions=True)
                assert all(answer == b"hello" for answer in answers[1::2])
                assert await whole_answer(client, post(server)) == b"hello"
            await client.aclose()
            await until(lambda: open_files() <= before)

    run(main())


@pytest.mark.parametrize(
    "name,value",
    [(b"x", b"a\r\nevil: 1"), (b"x", b"a\nb"), (b"x", b"a\rb"), (b"x", b"a\0"), (b"x", b"\x7f"), (b"x: 1\r\ny", b"a")],
)
def test_header_injection_is_refused_before_anything_is_sent(run: Run, name: bytes, value: bytes) -> None:
    async def main() -> None:
        async with asking(answering(HELLO)) as (client, server):
            with pytest.raises(httpx.LocalProtocolError):
                await client.ask(*post(server, headers=[(name, value)]), 5)
            assert server.connections == 0

    run(main())


def test_no_connection_is_a_connect_error(run: Run) -> None:
    async def main() -> None:
        async with serving(answering(HELLO)) as server:
            pass
        client = Client()
        with pytest.raises(httpx.ConnectError):
            await client.ask(*post(server), 5)
        with pytest.raises(httpx.ConnectError):
            await client.ask("GET", "http://no-such-host.invalid/", [], b"", 5)
        with pytest.raises(httpx.UnsupportedProtocol):
            await client.ask("GET", "ftp://127.0.0.1/", [], b"", 5)

    run(main())


def test_many_at_a_time_all_get_their_own_answer(run: Run) -> None:
    async def echo(peer: Peer) -> None:
        while seen := await peer.request():
            body = seen.partition(b"\r\n\r\n")[2]
            await peer.send(OK + b"content-length: %d\r\n\r\n%b" % (len(body), body))

    async def one(client: Client, server: RawServer, number: int) -> None:
        for turn in range(5):
            body = b"%d/%d" % (number, turn)
            assert await whole_answer(client, post(server, body)) == body

    async def main() -> None:
        async with asking(echo) as (client, server):
            await asyncio.gather(*(one(client, server, number) for number in range(50)))
            assert server.connections <= 50

    run(main())


def unreliable(random: Random) -> Script:
    """Answers half of its requests, and does something worse to the others."""

    async def script(peer: Peer) -> None:
        while await peer.request():
            part = ANSWER[: random.randrange(len(ANSWER))]
            fault = random.choice(["", "", "", "", "", "cut", "reset", "rubbish", "twice", "stall"])
            await peer.send({"": ANSWER, "rubbish": b"rubbish\r\n\r\n", "twice": ANSWER + ANSWER}.get(fault, part))
            if fault == "reset":
                peer.reset()
            if fault in ("cut", "reset"):
                return
            if fault == "stall":
                await asyncio.sleep(1)

    return script


def test_nothing_is_lost_in_a_storm_of_faults(run: Run) -> None:
    """Faults and cancelling all at once, in a crowd: every file and every place comes back."""
    random = Random(4)

    async def one(client: Client, server: RawServer) -> None:
        for _ in range(20):
            try:
                async with asyncio.timeout(random.random() * 0.05):
                    assert await whole_answer(client, post(server)) == b"hello"
            except (TimeoutError, httpx.TransportError):
                pass

    async def main() -> None:
        client = Client(bounds=Bounds(connections=8, idle_seconds=0.5))  # so long may the last place take to come back
        async with serving(unreliable(random)) as server:
            before = open_files()
            await asyncio.gather(*(one(client, server) for _ in range(24)))
            origin = next(iter(client.origins.values()))
            everything = [await origin.open(5) for _ in range(8)]
            with pytest.raises(httpx.PoolTimeout):
                await origin.open(0.05)
            for connection in everything:
                connection.abort()
            await client.aclose()
        await until(lambda: open_files() <= before)

    run(main())


def test_known_urls_are_bounded(run: Run) -> None:
    async def main() -> None:
        async with asking(answering(HELLO)) as (client, server):
            for number in range(1500):
                await whole_answer(client, post(server, path=f"/status/{number}"))
            assert len(client.starts) <= 1024
            assert server.connections == 1

    run(main())
