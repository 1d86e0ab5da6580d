"""One connection buffers no more than it may, at any speed of its reader."""

import asyncio
import gc
import tracemalloc
import weakref
from collections import Counter
from dataclasses import dataclass, field

import httpx
import pytest

from proxy.upstream.connection import HIGH_WATER, MAX_READ, Connection
from proxy.upstream.dialing import dial
from proxy.upstream.resolving import Resolver
from tests.upstream.conftest import Run
from tests.upstream.rawserver import OK, Peer, RawServer, read, serving
from tests.waiting import until

REQUEST = b"GET / HTTP/1.1\r\n\r\n"


async def connected(server: RawServer) -> Connection:
    return await dial(Resolver("127.0.0.1", server.port), None, lambda: Connection(lambda _: None))


def test_a_body_that_nobody_reads_is_left_with_the_kernel(run: Run) -> None:
    async def pouring(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK + b"\r\n")
        block = b"x" * 65536
        while True:
            await peer.send(block)

    async def main() -> None:
        async with serving(pouring) as server:
            connection = await connected(server)
            await connection.exchange(REQUEST, b"")
            await until(lambda: sum(map(len, connection.parser.pieces)) > HIGH_WATER)
            gc.collect()
            tracemalloc.start()
            for _ in range(50):
                await asyncio.sleep(0.002)
            held = sum(map(len, connection.parser.pieces))
            assert HIGH_WATER < held <= 3 * HIGH_WATER
            assert tracemalloc.get_traced_memory()[0] < 1024 * 1024
            tracemalloc.stop()
            assert len(await read(connection)) == held
            assert len(await read(connection)) <= 3 * HIGH_WATER
            connection.abort()

    run(main())


def test_a_connection_that_was_paused_can_be_used_again(run: Run) -> None:
    size = HIGH_WATER + 100_000

    async def twice(peer: Peer) -> None:
        while await peer.request():
            await peer.send(OK + b"content-length: %d\r\n\r\n" % size + b"x" * size)

    async def main() -> None:
        async with serving(twice) as server:
            connection = await connected(server)
            for _ in range(3):
                await connection.exchange(REQUEST, b"")
                await until(lambda: connection.parser.complete or sum(map(len, connection.parser.pieces)) > HIGH_WATER)
                came = 0
                while data := await read(connection):
                    came += len(data)
                assert came == size
                assert connection.release()
            connection.abort()

    run(main())


def test_a_cancelled_read_loses_nothing(run: Run) -> None:
    async def late(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK + b"content-length: 4\r\n\r\n")
        await go_on.wait()
        await peer.send(b"late")
        await peer.left()

    async def main() -> None:
        async with serving(late) as server:
            connection = await connected(server)
            await connection.exchange(REQUEST, b"")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await read(connection)
            go_on.set()
            assert await read(connection) == b"late"
            assert await read(connection) == b""
            assert connection.release()
            connection.abort()
            assert not connection.release()

    go_on = asyncio.Event()
    run(main())


def test_answers_without_a_body_can_follow_each_other_for_ever(run: Run) -> None:
    async def empty(peer: Peer) -> None:
        while await peer.request():
            await peer.send(OK + b"content-length: 0\r\nx-long: " + b"x" * 4000 + b"\r\n\r\n")

    async def main() -> None:
        async with serving(empty) as server:
            connection = await connected(server)
            for _ in range(2 * HIGH_WATER // 4000):
                async with asyncio.timeout(5):
                    await connection.exchange(REQUEST, b"")
                    assert await read(connection) == b""
                assert connection.release()
            connection.abort()

    run(main())


@dataclass
class Taker:
    """Takes what comes, but what holds `refuses`."""

    refuses: bytes = b"no taker refuses this"
    taken: list[bytes] = field(default_factory=list)
    refused: list[bytes] = field(default_factory=list)

    def __call__(self, data: bytes) -> bool:
        goes_on = self.refuses not in data
        (self.taken if goes_on else self.refused).append(data)
        return goes_on


CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"


def chunk(data: bytes, extension: bytes = b"") -> bytes:
    return b"%x%b\r\n%b\r\n" % (len(data), extension, data)


class Steps:
    """A server that sends the next piece when it is told to."""

    def __init__(self) -> None:
        self.pieces: asyncio.Queue[bytes] = asyncio.Queue()
        self.send = self.pieces.put_nowait

    async def __call__(self, peer: Peer) -> None:
        while await peer.request():
            while piece := await self.pieces.get():
                await peer.send(piece)
            peer.writer.close()


async def begun(server: RawServer, steps: Steps) -> Connection:
    """A connection with a response of which nothing but the head has come."""
    connection = await connected(server)
    steps.send(CHUNKED)
    await connection.exchange(REQUEST, b"")
    return connection


def test_a_taker_gets_what_comes_while_it_is_waited_for_and_a_refusal_ends_the_wait(run: Run) -> None:
    async def main() -> None:
        steps, taker = Steps(), Taker(b"three")
        async with serving(steps) as server:
            connection = await begun(server, steps)
            connection.pass_to(taker)
            steps.send(chunk(b"zero"))
            await until(lambda: bool(connection.parser.pieces))
            assert connection.read_available() == b"zero"  # nobody waited for it
            waiting = connection.readable()
            for said in (b"one", b"two", b"three"):
                assert not waiting.done()
                steps.send(chunk(said))
                await until(lambda said=said: said in taker.taken + taker.refused)  # type: ignore[misc]
            assert await waiting is True
            assert (taker.taken, taker.refused, connection.read_available()) == ([b"one", b"two"], [b"three"], b"")
            steps.send(chunk(b"four"))
            await until(lambda: bool(connection.parser.pieces))  # held: the wait is over
            assert connection.read_available() == b"four"
            waiting = connection.readable()
            steps.send(chunk(b"five") + b"0\r\n\r\n")
            assert await waiting is False  # the end is for who waits, with what came beside it
            assert (connection.read_available(), taker.taken) == (b"five", [b"one", b"two"])
            assert connection.parser.complete and connection.release()
            connection.abort()

    run(main())


@pytest.mark.parametrize(("last", "kept"), [(b"", b""), (b"rubbish\r\n", b""), (chunk(b"x") + b"rubbish\r\n", b"x")])
def test_a_failure_reaches_the_waiter_after_the_bytes_before_it(run: Run, last: bytes, kept: bytes) -> None:
    async def main() -> None:
        steps, taker = Steps(), Taker()
        async with serving(steps) as server:
            connection = await begun(server, steps)
            connection.pass_to(taker)
            waiting = connection.readable()
            steps.send(chunk(b"one"))
            await until(lambda: bool(taker.taken))
            steps.send(last)
            assert await waiting is False
            assert (connection.read_available(), taker.taken) == (kept, [b"one"])
            with pytest.raises(httpx.RemoteProtocolError):
                connection.readable()
            assert not connection.release()

    run(main())


def test_framing_is_no_body_that_a_taker_left_behind(run: Run) -> None:
    """Chunk heads that come by themselves, far more of them than are ever held of a body."""

    async def main() -> None:
        steps, taker = Steps(), Taker()
        async with serving(steps) as server:
            connection = await begun(server, steps)
            connection.pass_to(taker)
            waiting = connection.readable()
            for number in range(HIGH_WATER // 32_768 + 2):
                size, _, data = chunk(b"x", b";" + b"e" * 32_768).partition(b"\r\n")
                steps.send(size + b"\r\n")
                await asyncio.sleep(0.01)  # so that the data come apart from it
                steps.send(data)
                async with asyncio.timeout(2):
                    await until(lambda number=number: len(taker.taken) > number)  # type: ignore[misc]
            assert not waiting.done()
            connection.abort()

    run(main())


def test_a_taker_is_for_one_response_and_an_idle_connection_holds_none(run: Run) -> None:
    async def main() -> None:
        steps, taker = Steps(), Taker()
        async with serving(steps) as server:
            connection = await begun(server, steps)
            connection.pass_to(taker)
            steps.send(chunk(b"one") + b"0\r\n\r\n")
            while await read(connection):
                pass
            assert connection.release()
            gone = weakref.ref(taker)
            del taker
            gc.collect()
            assert gone() is None  # and with it the call that it belonged to
            steps.pieces = asyncio.Queue()
            connection.abort()

    run(main())


def test_a_cancelled_wait_passes_nothing_to_the_taker_and_loses_nothing(run: Run) -> None:
    async def main() -> None:
        steps, taker = Steps(), Taker()
        async with serving(steps) as server:
            connection = await begun(server, steps)
            connection.pass_to(taker)
            connection.readable().cancel()
            steps.send(chunk(b"one"))
            await until(lambda: bool(connection.parser.pieces))
            assert (connection.read_available(), taker.taken) == (b"one", [])
            connection.abort()

    run(main())


def test_what_a_taker_raises_is_for_who_waits_and_nothing_else_is_lost(run: Run) -> None:
    def broken(piece: bytes) -> bool:
        raise ValueError(piece.decode())

    async def main() -> None:
        steps = Steps()
        async with serving(steps) as server:
            connection = await begun(server, steps)
            connection.pass_to(broken)
            waiting = connection.readable()
            steps.send(chunk(b"one"))
            with pytest.raises(ValueError, match="one"):
                await waiting
            steps.send(chunk(b"two"))
            await until(lambda: bool(connection.parser.pieces))
            assert connection.read_available() == b"two"
            connection.abort()

    run(main())


def test_a_socket_that_is_full_has_no_more_than_its_turn(run: Run) -> None:
    async def main() -> None:
        steps, turn = Steps(), 0
        read: Counter[int] = Counter()  # bytes, by turn of the loop

        def turns() -> None:
            nonlocal turn
            turn += 1
            turning[0] = asyncio.get_running_loop().call_soon(turns)

        def taker(piece: bytes) -> bool:
            read[turn] += len(piece)
            return True

        turning = [asyncio.get_running_loop().call_soon(turns)]
        async with serving(steps) as server:
            connection = await begun(server, steps)
            connection.pass_to(taker)
            waiting = asyncio.ensure_future(connection.readable())
            steps.send(chunk(b"x" * 40 * MAX_READ))
            await until(lambda: read.total() == 40 * MAX_READ)
            first, *others = read.values()  # by the first it is known that the socket is full
            assert first <= 4 * MAX_READ and max(others) <= MAX_READ
            waiting.cancel()
            connection.abort()
        turning[0].cancel()

    run(main())
