"""Connections are kept, counted and handed on."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from proxy.upstream.connection import Connection
from proxy.upstream.pool import Bounds, Origin
from tests.upstream.conftest import Run
from tests.upstream.rawserver import HELLO, Peer, RawServer, Script, answering, open_files, read, serving
from tests.waiting import until


@asynccontextmanager
async def pooling(script: Script, bounds: Bounds) -> AsyncIterator[tuple[Origin, RawServer]]:
    async with serving(script) as server:
        origin = Origin("127.0.0.1", server.port, None, bounds)
        try:
            yield origin, server
        finally:
            origin.close()


async def used(connection: Connection) -> Connection:
    await connection.exchange(b"GET / HTTP/1.1\r\n\r\n", b"")
    while await read(connection):
        pass
    return connection


async def connections(origin: Origin, number: int) -> list[Connection]:
    return [await used(await origin.open(5)) for _ in range(number)]


def test_the_newest_is_taken_first(run: Run) -> None:
    async def main() -> None:
        async with pooling(answering(HELLO), Bounds()) as (origin, _):
            first, second, third = await connections(origin, 3)
            for connection in (second, first, third):
                origin.give(connection)
            assert [origin.take(), origin.take(), origin.take(), origin.take()] == [third, first, second, None]
            for connection in (first, second, third):
                connection.abort()

    run(main())


def test_idle_ones_are_bounded_and_the_oldest_goes(run: Run) -> None:
    async def main() -> None:
        async with pooling(answering(HELLO), Bounds(idle=2)) as (origin, _):
            first, second, third = await connections(origin, 3)
            for connection in (first, second, third):
                origin.give(connection)
            assert first.closed
            assert [origin.take(), origin.take(), origin.take()] == [third, second, None]
            second.abort()
            third.abort()

    run(main())


def test_idle_ones_are_closed_after_a_while_without_any_traffic(run: Run) -> None:
    left = 0

    async def watching(peer: Peer) -> None:
        nonlocal left
        await answering(HELLO)(peer)
        left += 1

    async def main() -> None:
        async with pooling(watching, Bounds(idle_seconds=0.1)) as (origin, _):
            before = open_files()
            for connection in await connections(origin, 5):
                origin.give(connection)
                await asyncio.sleep(0.01)
            await until(lambda: left == 5)
            await until(lambda: open_files() <= before)
            assert origin.take() is None

    run(main())


def test_one_that_was_idle_for_too_long_is_not_taken_even_if_the_loop_was_late(run: Run) -> None:
    async def main() -> None:
        async with pooling(answering(HELLO), Bounds(idle_seconds=0.05)) as (origin, _):
            for connection in await connections(origin, 2):
                origin.give(connection)
            time.sleep(0.1)  # the loop is late
            assert origin.take() is None

    run(main())


def test_one_that_the_server_closes_is_gone_at_once(run: Run) -> None:
    async def closing(peer: Peer) -> None:
        await peer.request()
        await peer.send(HELLO)
        await close.wait()

    async def main() -> None:
        async with pooling(closing, Bounds()) as (origin, _):
            (connection,) = await connections(origin, 1)
            origin.give(connection)
            close.set()
            await until(lambda: connection.closed)
            assert origin.take() is None

    close = asyncio.Event()
    run(main())


def test_a_half_read_answer_is_not_kept(run: Run) -> None:
    async def main() -> None:
        async with pooling(answering(HELLO[:-1]), Bounds()) as (origin, _):
            connection = await origin.open(5)
            await connection.exchange(b"GET / HTTP/1.1\r\n\r\n", b"")
            origin.give(connection)
            assert connection.closed
            assert origin.take() is None

    run(main())


def test_beyond_the_bound_requests_wait_in_turn(run: Run) -> None:
    async def main() -> None:
        async with pooling(answering(HELLO), Bounds(connections=2)) as (origin, server):
            first, second = await connections(origin, 2)
            order: list[int] = []

            async def waiting(number: int) -> None:
                connection = await used(await origin.open(5))
                order.append(number)
                origin.give(connection)

            tasks = []
            for number in range(6):
                tasks.append(asyncio.create_task(waiting(number)))
                await asyncio.sleep(0)
            await asyncio.sleep(0.02)
            assert order == []
            origin.give(first)
            await asyncio.gather(*tasks)
            assert order == list(range(6))
            assert server.connections == 2
            second.abort()

    run(main())


def test_a_closed_connection_makes_room_for_a_new_one(run: Run) -> None:
    async def main() -> None:
        async with pooling(answering(HELLO), Bounds(connections=1)) as (origin, server):
            (first,) = await connections(origin, 1)
            waiting = asyncio.create_task(origin.open(5))
            await asyncio.sleep(0.02)
            first.abort()
            second = await waiting
            assert second is not first
            await until(lambda: server.connections == 2)
            second.abort()

    run(main())


def test_failed_and_cancelled_connecting_gives_its_room_back(run: Run) -> None:
    async def main() -> None:
        async with serving(answering(HELLO)) as server:
            pass
        origin = Origin("127.0.0.1", server.port, None, Bounds(connections=2))
        for _ in range(5):
            with pytest.raises(httpx.ConnectError):
                await origin.open(5)
        async with pooling(answering(HELLO), Bounds(connections=2)) as (origin, _):
            for turns in range(10):
                task = asyncio.create_task(origin.open(5))
                for _ in range(turns):
                    await asyncio.sleep(0)
                if task.done():
                    task.result().abort()
                task.cancel()
                await asyncio.wait([task])
            for connection in await connections(origin, 2):
                connection.abort()

    run(main())


def test_who_leaves_the_queue_passes_on_what_he_was_given(run: Run) -> None:
    async def main() -> None:
        async with pooling(answering(HELLO), Bounds(connections=1)) as (origin, server):
            (first,) = await connections(origin, 1)
            leaving, staying = asyncio.create_task(origin.open(5)), asyncio.create_task(origin.open(5))
            gone = asyncio.create_task(origin.open(5))
            await asyncio.sleep(0.02)
            gone.cancel()
            origin.give(first)  # to `leaving`, which does not get to run before it is cancelled
            leaving.cancel()
            assert await staying is first
            await asyncio.wait([leaving, gone])
            again, last = asyncio.create_task(origin.open(5)), asyncio.create_task(origin.open(5))
            await asyncio.sleep(0.02)
            first.abort()  # frees the room, not the connection
            await until(lambda: again.done() or last.done() or server.connections == 2)
            again.cancel()
            await asyncio.wait([again])
            if not again.cancelled():
                again.result().abort()
            (await last).abort()

    run(main())


def test_one_who_was_cancelled_a_moment_ago_is_passed_over(run: Run) -> None:
    async def main() -> None:
        async with pooling(answering(HELLO), Bounds(connections=2)) as (origin, _):
            first, second = await connections(origin, 2)
            waiting = [asyncio.create_task(origin.open(5)) for _ in range(4)]
            await asyncio.sleep(0.02)
            waiting[0].cancel()
            waiting[2].cancel()
            origin.give(first)
            origin.give(second)
            assert [await waiting[1], await waiting[3]] == [first, second]
            await asyncio.wait(waiting)
            first.abort()
            second.abort()

    run(main())


def test_waiting_for_room_ends_with_the_time_given(run: Run) -> None:
    async def main() -> None:
        async with pooling(answering(HELLO), Bounds(connections=1)) as (origin, _):
            (first,) = await connections(origin, 1)
            with pytest.raises(httpx.PoolTimeout):
                await origin.open(0.05)
            origin.give(first)
            assert origin.take() is first
            first.abort()

    run(main())


def test_a_pool_that_is_closed_keeps_nothing(run: Run) -> None:
    async def main() -> None:
        async with pooling(answering(HELLO), Bounds()) as (origin, _):
            idle, busy = await connections(origin, 2)
            origin.give(idle)
            origin.close()
            assert idle.closed and not busy.closed
            origin.give(busy)
            assert busy.closed

    run(main())
