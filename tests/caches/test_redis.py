"""Answers in a real Redis: shared, aged, and no burden when it is slow, frozen or dead."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from proxy.caches.contract import Entry
from tests.running import free_port
from tests.waiting import wait_for

pytest.importorskip("redis", reason="needs the extra `redis`")

from redis.asyncio import Redis  # noqa: E402

from proxy.caches.redis import RedisStore  # noqa: E402

BINARY = shutil.which("redis-server")
needs_server = pytest.mark.skipif(BINARY is None, reason="needs a redis-server (Debian's package of that name)")
A, B = b"A" * 8, b"B" * 8
KEY = A + B + b"k" * 16
ENTRY = Entry(b'{"choices":[]}', 1000.5, "east", "gpt-4o \xe9")


@dataclass(slots=True)
class Server:
    """A Redis of this test's own."""

    process: subprocess.Popen[bytes]
    url: str


@contextmanager
def started(folder: Path) -> Iterator[Server]:
    """A Redis on a free port."""
    assert BINARY is not None
    port = free_port()
    command = [BINARY, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    wait_for(lambda: answers(port))
    try:
        yield Server(process, f"redis://127.0.0.1:{port}/0")
    finally:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with started(tmp_path) as server:
        yield server


def answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(7) == b"+PONG\r\n"
    except OSError:
        return False


@needs_server
def test_what_one_process_keeps_another_finds(server: Server) -> None:
    async def scenario() -> None:
        one, other = await ready(server.url), await ready(server.url)
        await one.put(KEY, ENTRY, 60)
        assert await other.get(KEY) == ENTRY
        assert await other.get(A + B + b"l" * 16) is None
        await one.put(KEY, ENTRY, 0.05)
        ends = time.monotonic() + 5
        while await one.get(KEY) is not None:
            assert time.monotonic() < ends
        await one.aclose()
        await other.aclose()

    asyncio.run(scenario())


@needs_server
def test_clearing_and_counting_by_route_and_model(server: Server) -> None:
    async def scenario() -> None:
        store = await ready(server.url)
        await store.clear(None, None)
        for number, tags in enumerate([A + A, A + B, B + A, B + B]):
            await store.put(tags + number.to_bytes(16, "big"), ENTRY, 60)
        holding = await store.holding()
        assert (holding.entries, holding.by_route) == (4, {A: 2, B: 2})
        assert await store.clear(A, B) == 1
        assert await store.clear(None, A) == 2
        assert await store.clear(None, None) == 1
        await store.aclose()

    asyncio.run(scenario())


@needs_server
def test_another_calls_answer_is_never_taken(server: Server) -> None:
    async def scenario() -> None:
        import redis.asyncio

        store, other = await ready(server.url), A + B + b"o" * 16
        await store.put(KEY, ENTRY, 60)
        async with redis.asyncio.Redis.from_url(server.url) as raw:
            value = await raw.get(b"sluice:1:" + KEY.hex().encode())
            assert isinstance(value, bytes)
            await raw.set(b"sluice:1:" + other.hex().encode(), value)
            await raw.set(b"sluice:1:" + KEY.hex().encode(), KEY + b"rubbish")
        assert await store.get(other) is None
        assert await store.get(KEY) is None
        await store.aclose()

    asyncio.run(scenario())


@needs_server
def test_a_frozen_redis_costs_its_budget_once_and_comes_back(server: Server) -> None:
    async def scenario() -> None:
        store = await ready(server.url, budget=0.01)
        os.kill(server.process.pid, signal.SIGSTOP)
        began = time.perf_counter()
        assert await store.get(KEY) is None
        first = time.perf_counter() - began
        began = time.perf_counter()
        for _ in range(1000):
            assert await store.get(KEY) is None
            await store.put(KEY, ENTRY, 60)
        rest = time.perf_counter() - began
        assert 0.009 < first < 0.2
        assert rest / 2000 < 0.001
        os.kill(server.process.pid, signal.SIGCONT)
        store.budget = 5
        await until(store)
        await store.aclose()

    asyncio.run(scenario())


@needs_server
def test_many_calls_at_once_wait_for_a_frozen_redis_together(server: Server) -> None:
    async def scenario() -> None:
        store = await ready(server.url, budget=0.01)
        os.kill(server.process.pid, signal.SIGSTOP)
        began = time.perf_counter()
        assert await asyncio.gather(*(store.get(KEY) for _ in range(100))) == [None] * 100
        assert time.perf_counter() - began < 0.3
        await store.aclose()

    asyncio.run(scenario())


@needs_server
def test_one_that_is_closed_connects_no_more(server: Server) -> None:
    """A reload closes it while calls that began with it go on."""

    async def scenario() -> None:
        store = await ready(server.url)
        await store.aclose()
        await store.put(KEY, ENTRY, 60)
        assert asyncio.all_tasks() == {asyncio.current_task()}, "it tries to connect"

    asyncio.run(scenario())


@needs_server
def test_a_redis_that_died_under_way(server: Server) -> None:
    async def scenario() -> None:
        store = await ready(server.url)
        server.process.kill()
        server.process.wait()
        assert await store.get(KEY) is None
        await store.put(KEY, ENTRY, 60)
        assert (await store.holding()).entries is None
        assert await store.clear(None, None) is None
        await store.aclose()

    asyncio.run(scenario())


def test_a_full_redis_keeps_no_more_and_still_has_what_it_kept(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        store = await ready(server.url)
        admin = Redis.from_url(server.url)
        await admin.config_set("maxmemory", "1")  # bytes, with Redis' usual policy, which removes nothing
        for _ in range(3):
            await store.put(A + B + b"l" * 16, ENTRY, 60)
            assert await store.get(KEY) == ENTRY
        await admin.config_set("maxmemory", "0")
        await store.put(A + B + b"m" * 16, ENTRY, 60)
        assert await store.get(A + B + b"m" * 16) == ENTRY
        await admin.aclose()
        await store.aclose()

    asyncio.run(scenario())
    assert len([record for record in caplog.records if "Redis refuses" in record.message]) == 1


def test_a_dead_redis_costs_nothing_and_is_tried_ever_less(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]

        async def scenario() -> None:
            now, tried = [0.0], []
            store = RedisStore(f"redis://127.0.0.1:{port}/0", clock=lambda: now[0])
            for _ in range(60):
                trying = store._trying
                assert await store.get(KEY) is None
                if store._trying is not None and store._trying is not trying:
                    tried.append(round(now[0], 2))
                    await asyncio.wait([store._trying])
                now[0] += 0.05
            pauses = [later - earlier for earlier, later in zip(tried, tried[1:], strict=False)]
            assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.8], abs=0.06)
            await store.aclose()

        asyncio.run(scenario())
    assert len([record for record in caplog.records if "Redis" in record.message]) == 1


async def ready(url: str, budget: float = 5.0) -> RedisStore:
    """A store whose Redis has answered, and keeps ENTRY."""
    store = RedisStore(url, budget=5.0)
    await until(store)
    store.budget = budget
    return store


async def until(store: RedisStore) -> None:
    """Waits until it answers."""
    async with asyncio.timeout(20):
        while await store.get(KEY) != ENTRY:
            await store.put(KEY, ENTRY, 60)
            await asyncio.sleep(0.005)
