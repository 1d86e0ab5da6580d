"""One connection holds no more than it may, whoever reads."""

import asyncio
import gc
import tracemalloc

import pytest

from proxy.upstream.connection import HIGH_WATER, Connection
from proxy.upstream.dialing import dial
from tests.upstream.conftest import Run
from tests.upstream.rawserver import OK, Peer, RawServer, read, serving, until

REQUEST = b"GET / HTTP/1.1\r\n\r\n"


async def connected(server: RawServer) -> Connection:
    return await dial("127.0.0.1", server.port, None, lambda: Connection(lambda _: None))


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
                assert connection.rest()
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
            assert connection.rest()
            connection.abort()
            assert not connection.rest()

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
                assert connection.rest()
            connection.abort()

    run(main())
