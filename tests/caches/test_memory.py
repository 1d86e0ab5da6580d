"""Answers in memory: bounded, aged, cleared."""

import asyncio
import os
import subprocess
import sys

from proxy.caches.contract import Entry
from proxy.caches.memory import OVERHEAD, Memory

A, B = b"A" * 8, b"B" * 8


class Time:
    """A clock that a test moves."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def key(route: bytes, model: bytes, number: int) -> bytes:
    return route + model + number.to_bytes(16, "big")


def entry(size: int = 10) -> Entry:
    return Entry(b"x" * size, 1000.0, "east", "gpt-4o")


def test_what_is_put_is_there_until_it_is_too_old() -> None:
    async def scenario() -> None:
        time = Time()
        memory = Memory(10_000, time)
        await memory.put(key(A, A, 1), entry(), 60)
        assert await memory.get(key(A, A, 1)) == entry()
        assert await memory.get(key(A, A, 2)) is None
        time.now += 59.9
        assert await memory.get(key(A, A, 1)) is not None
        time.now += 0.1
        assert await memory.get(key(A, A, 1)) is None
        assert (await memory.holding()).size == 0

    asyncio.run(scenario())


def test_the_least_recently_used_makes_room() -> None:
    async def scenario() -> None:
        memory = Memory(4 * (OVERHEAD + 10))
        for number in range(4):
            await memory.put(key(A, A, number), entry(), 60)
        await memory.get(key(A, A, 0))
        await memory.put(key(A, A, 4), entry(), 60)
        there = [number for number in range(5) if await memory.get(key(A, A, number))]
        assert there == [0, 2, 3, 4]
        await memory.put(key(A, A, 0), entry(5), 60)
        assert (await memory.holding()).size == 4 * OVERHEAD + 35

    asyncio.run(scenario())


def test_one_that_is_too_large_is_not_kept_and_takes_the_old_one_with_it() -> None:
    async def scenario() -> None:
        memory = Memory(10_000)
        await memory.put(key(A, A, 1), entry(), 60)
        await memory.put(key(A, A, 1), entry(2_500), 60)
        assert await memory.get(key(A, A, 1)) is None
        assert (await memory.holding()).size == 0

    asyncio.run(scenario())


def test_clearing_by_route_and_model() -> None:
    async def scenario() -> None:
        memory = Memory(100_000)
        for number, (route, model) in enumerate([(A, A), (A, B), (B, A), (B, B)]):
            await memory.put(key(route, model, number), entry(), 60)
        assert (await memory.holding()).by_route == {A: 2, B: 2}
        assert await memory.clear(A, B) == 1
        assert await memory.clear(None, A) == 2
        assert (await memory.holding()).by_route == {B: 1}
        assert await memory.clear(None, None) == 1

    asyncio.run(scenario())


FILL = """
import asyncio, random
from proxy.caches.contract import Entry
from proxy.caches.memory import Memory
SIZE = 32 << 20

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

async def fill():
    chance, memory, before = random.Random(7), Memory(SIZE), resident()
    for number in range(60_000):  # three times what there is room for, in the sizes of real answers
        data = chance.randbytes(chance.choice((300, 1_000, 2_000, 5_000)))
        await memory.put(b"A" * 16 + number.to_bytes(16, "big"), Entry(data, 0.0, "east", "gpt-4o"), 3600)
    print((resident() - before) / SIZE, (await memory.holding()).size / SIZE)

asyncio.run(fill())
"""


def test_the_process_grows_no_more_than_it_was_allowed() -> None:
    if not os.path.exists("/proc/self/statm"):
        return
    done = subprocess.run([sys.executable, "-c", FILL], capture_output=True, text=True, check=True, timeout=60)
    grown, held = map(float, done.stdout.split())
    assert 0.95 < held <= 1.0
    assert grown < 1.2
