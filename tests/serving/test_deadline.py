"""A deadline that moves calls once, when it has passed; its timer seldom moves."""

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

from proxy.serving.deadline import Deadline
from tests.waiting import until


class Counting:
    """Counts the timers that are made."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.timers = 0

    def time(self) -> float:
        return self.loop.time()

    def call_at(self, when: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        self.timers += 1
        return self.loop.call_at(when, call)


def run(scenario: Callable[[Deadline, list[float], Any], Any]) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        counting: Any = Counting(loop)
        passed: list[float] = []
        deadline = Deadline(counting, lambda: passed.append(loop.time()))
        await scenario(deadline, passed, counting)
        deadline.stop()

    uvloop.run(main())


def test_it_passes_once_and_not_early() -> None:
    async def scenario(deadline: Deadline, passed: list[float], counting: Counting) -> None:
        for _ in range(2):
            passed.clear()
            deadline.set(0.05)
            at = deadline.at
            await until(lambda: passed)
            assert passed[0] >= at - 0.002
            await asyncio.sleep(0.06)
            assert len(passed) == 1

    run(scenario)


def test_moving_it_back_costs_no_timer_and_moving_it_forward_one() -> None:
    async def scenario(deadline: Deadline, passed: list[float], counting: Counting) -> None:
        deadline.set(0.05)
        for _ in range(100):
            deadline.clear()
            deadline.set(0.1)
        at = deadline.at
        assert counting.timers == 1
        await until(lambda: passed)
        assert passed[0] >= at - 0.002 and counting.timers <= 3
        deadline.set(60)
        deadline.set(0.01)
        await until(lambda: len(passed) == 2)

    run(scenario)


def test_what_is_cleared_or_stopped_does_not_pass() -> None:
    async def scenario(deadline: Deadline, passed: list[float], counting: Counting) -> None:
        deadline.set(0.01)
        deadline.clear()
        await asyncio.sleep(0.03)
        deadline.set(0.01)
        deadline.stop()
        await asyncio.sleep(0.03)
        assert not passed

    run(scenario)


@pytest.mark.parametrize("sent", [True, False])
def test_a_process_that_stood_still_reads_what_came_meanwhile_before_it_judges(sent: bool) -> None:
    async def scenario(deadline: Deadline, passed: list[float], counting: Counting) -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        stopper, stops = socket.socketpair()
        read: list[bytes] = []

        def stand_still() -> None:
            stops.recv(1)
            if sent:
                theirs.send(b"x")
            time.sleep(0.3)

        def ready() -> None:
            read.append(ours.recv(1))
            deadline.clear()

        with ours, theirs, stopper, stops:
            loop.add_reader(ours, ready)
            loop.add_reader(stops, stand_still)  # the loop's timers come behind what reads, and before it reads again
            for times in (1, 2):
                deadline.set(0.1)
                stopper.send(b"x")
                while len(read) + len(passed) < times:
                    await asyncio.sleep(0.002)
                await asyncio.sleep(0.02)
            loop.remove_reader(ours)
            loop.remove_reader(stops)
        assert (len(read), len(passed)) == ((2, 0) if sent else (0, 2))

    run(scenario)
