"""Concurrency limits: bounded, clients in turn, and no place is ever lost."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from proxy.errors import SluiceError
from proxy.policies.queues import Gate


@asynccontextmanager
async def place(gate: Gate, tenant: str) -> AsyncIterator[None]:
    await gate.enter(tenant)
    try:
        yield
    finally:
        gate.leave()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_so_many_are_inside_and_the_rest_waits_in_order() -> None:
    async def run() -> list[int]:
        gate, order = Gate("east", 2, 9), []

        async def call(at: int) -> None:
            async with place(gate, "t"):
                assert gate.inside <= 2
                order.append(at)
                await asyncio.sleep(0)

        await asyncio.gather(*(call(at) for at in range(10)))
        assert (gate.inside, gate._queued, len(gate._waiting)) == (0, 0, 0)
        return order

    assert asyncio.run(run()) == list(range(10))


def test_clients_take_turns_however_many_calls_one_has() -> None:
    async def run() -> list[str]:
        gate, order = Gate("east", 1, 9), []

        async def call(tenant: str) -> None:
            async with place(gate, tenant):
                order.append(tenant)

        async with place(gate, "first"):
            greedy = [asyncio.create_task(call("greedy")) for _ in range(2)]
            await settle()
            modest = [asyncio.create_task(call("modest")) for _ in range(2)]
            await settle()
        await asyncio.gather(*greedy, *modest)
        return order

    assert asyncio.run(run()) == ["greedy", "modest", "greedy", "modest"]


def test_the_queue_is_bounded_and_says_when_to_come_back() -> None:
    async def run() -> None:
        gate = Gate("east", 2, 6)
        for _ in range(2):
            await gate.enter("t")
        waiting = [asyncio.create_task(gate.enter("t")) for _ in range(8)]
        await settle()
        with pytest.raises(SluiceError, match="its queue is full") as raised:
            await gate.enter("other")
        assert (raised.value.code, raised.value.status, raised.value.again) == ("policy_concurrency", 429, "next")
        assert raised.value.retry_after == 3.0
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        assert gate._queued == 0
        gate.leave()
        await gate.enter("other")

    asyncio.run(run())


def test_who_waits_too_long_is_sent_away() -> None:
    async def run() -> None:
        gate = Gate("east", 1, 0.02)
        await gate.enter("t")
        with pytest.raises(SluiceError, match=r"0\.02 s"):
            await gate.enter("t")
        gate.leave()
        assert (gate.inside, gate._queued) == (0, 0)

    asyncio.run(run())


def test_nobody_overtakes_those_who_wait() -> None:
    async def run() -> None:
        gate = Gate("east", 1, 9)
        await gate.enter("t")
        waiting = asyncio.create_task(gate.enter("t"))
        await settle()
        gate.leave()  # the place is promised now, though the task has not run yet
        late = asyncio.create_task(gate.enter("t"))
        await settle()
        assert (waiting.done(), late.done(), gate.inside) == (True, False, 1)
        gate.leave()
        await late
        gate.leave()
        assert gate.inside == 0

    asyncio.run(run())


@pytest.mark.parametrize("turns", range(4))
def test_who_leaves_around_its_turn_hands_the_place_on(turns: int) -> None:
    async def run() -> None:
        gate = Gate("east", 1, 9)
        await gate.enter("t")
        leaving, next_one = (asyncio.create_task(gate.enter(tenant)) for tenant in ("a", "b"))
        await settle()
        gate.leave()
        for _ in range(turns):
            await asyncio.sleep(0)
        if not leaving.cancel():
            gate.leave()  # it had its place, and gives it back
        await asyncio.wait([leaving])
        await asyncio.wait_for(next_one, 1)
        assert gate.inside == 1
        gate.leave()
        assert (gate.inside, gate._queued, len(gate._waiting)) == (0, 0, 0)

    asyncio.run(run())


@pytest.mark.parametrize("seed", range(4))
def test_no_place_is_lost_whoever_leaves_when(seed: int) -> None:
    async def run() -> None:
        dice = random.Random(seed)
        gate = Gate("east", 3, 0.01)
        inside = 0

        async def call() -> None:
            nonlocal inside
            try:
                async with place(gate, dice.choice("abcd")):
                    inside += 1
                    try:
                        assert inside <= 3
                        await asyncio.sleep(dice.choice([0, 0, 0.001, 0.004]))
                    finally:
                        inside -= 1
            except SluiceError as full:
                assert full.code == "policy_concurrency"

        tasks: list[asyncio.Task[None]] = []
        for _ in range(600):
            tasks.append(asyncio.create_task(call()))
            if dice.random() < 0.5:
                dice.choice(tasks).cancel()
            if dice.random() < 0.3:
                await asyncio.sleep(dice.choice([0, 0, 0.0005]))
        await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():
                task.result()
        assert (inside, gate.inside, gate._queued, len(gate._waiting)) == (0, 0, 0, 0)

    asyncio.run(run())
