"""Deadlines end the waits they were set for, say which one passed, and are never taken for a caller who leaves."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from time import sleep

import pytest
import uvloop

from proxy.clocks import Clock, ClockName, Watchdog, timeout

Wait = Callable[[], Awaitable[object]]


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


async def waited(clock: Clock, name: ClockName, seconds: float, wait: Wait = forever) -> str:
    """How a wait ended: by a deadline's name, or "done"."""
    clock.set(name, seconds)
    try:
        await wait()
    except asyncio.CancelledError:
        if passed := clock.caught():
            return passed
        raise
    finally:
        clock.clear()
    return "done"


@pytest.mark.parametrize(
    ("name", "seconds", "total", "passed"),
    [("idle", 0.02, 9, "idle"), ("first_token", 0.02, 9, "first_token"), ("idle", 9, 0.02, "total"),
     ("idle", -1, 9, "idle"), ("idle", 9, -1, "total")],
)  # fmt: skip
def test_the_deadline_that_comes_first_ends_the_wait(
    name: ClockName, seconds: float, total: float, passed: ClockName
) -> None:
    async def run() -> str:
        return await waited(Watchdog().clock(total), name, seconds)

    assert asyncio.run(run()) == passed


def test_it_is_kept_to_the_tick_and_not_before() -> None:
    async def run() -> float:
        loop, clock = asyncio.get_running_loop(), Watchdog().clock(9)
        began = loop.time()
        await waited(clock, "idle", 0.1)
        return loop.time() - began

    assert asyncio.run(run()) >= 0.1


def test_a_wait_that_ends_in_time_is_left_alone_for_ever() -> None:
    async def run() -> None:
        clock = Watchdog().clock(9)
        assert await waited(clock, "idle", 0.05, lambda: asyncio.sleep(0)) == "done"
        await asyncio.sleep(0.1)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        assert await waited(clock, "queue", 0.01) == "queue"  # and it can be set again
        assert task.cancelling() == 0

    asyncio.run(run())


@pytest.mark.parametrize("sent", [True, False])
def test_what_came_while_the_process_stood_still_is_in_time(sent: bool) -> None:
    async def run() -> str:
        loop, clock = asyncio.get_running_loop(), Watchdog().clock(9)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)

            def stand_still() -> None:
                if sent:
                    theirs.send(b"x")
                sleep(0.3)

            loop.call_later(0.02, stand_still)
            return await waited(clock, "idle", 0.1, lambda: loop.sock_recv(ours, 1))

    for started in (asyncio.run, uvloop.run):
        assert started(run()) == ("done" if sent else "idle")


def test_a_caller_who_leaves_is_no_deadline() -> None:
    async def run() -> None:
        task = asyncio.create_task(waited(Watchdog().clock(9), "idle", 9))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()

    asyncio.run(run())


@pytest.mark.parametrize("caller_first", [True, False])
def test_a_caller_who_leaves_in_the_moment_of_the_deadline_is_heard(caller_first: bool) -> None:
    async def run() -> None:
        clock = Watchdog().clock(9)
        task = asyncio.create_task(waited(clock, "idle", 9))
        await asyncio.sleep(0)
        for end in (task.cancel, clock.expire) if caller_first else (clock.expire, task.cancel):
            end()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())


def test_a_deadline_of_a_finished_task_is_not_reported_for_another() -> None:
    async def run() -> None:
        clock = Watchdog().clock(9)

        async def forgetful() -> None:
            clock.set("idle", 0.01)  # and never cleared

        await asyncio.create_task(forgetful())
        await asyncio.sleep(0.05)
        task = asyncio.create_task(waited(clock, "idle", 9))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())


def test_only_the_task_that_waits_is_ended() -> None:
    async def run() -> None:
        clock = Watchdog().clock(9)
        inner = asyncio.create_task(waited(clock, "whole", 0.02))
        other = asyncio.create_task(asyncio.sleep(0.1, "slept"))
        assert await inner == "whole"
        assert await other == "slept"

    asyncio.run(run())


def test_a_clock_within_asyncios_own_timeout_leaves_that_to_work() -> None:
    async def run() -> None:
        clock = Watchdog().clock(9)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await waited(clock, "idle", 9)
        async with asyncio.timeout(9):
            assert await waited(clock, "idle", 0.02) == "idle"

    asyncio.run(run())


@pytest.mark.parametrize(("total", "beside", "passed"), [(9, 0.02, "whole"), (0.02, 9, "total")])
def test_a_clock_beside_another_ends_no_later(total: float, beside: float, passed: str) -> None:
    async def run() -> str:
        clock = Watchdog().clock(total)
        return await waited(clock.beside(beside, "whole"), "idle", 9)

    assert asyncio.run(run()) == passed


def test_what_is_left_runs_down() -> None:
    async def run() -> None:
        clock = Watchdog().clock(1.0)
        before = clock.left
        await asyncio.sleep(0.02)
        assert before - 0.9 < clock.left < before <= 1.0

    asyncio.run(run())


def test_a_wait_may_go_on_for_as_long_as_there_is_more_time() -> None:
    async def run() -> tuple[str, float]:
        loop, clock = asyncio.get_running_loop(), Watchdog().clock(9)
        began = loop.time()
        clock.set("idle", 0.03)
        clock.more = lambda: began + 0.15 - loop.time()
        try:
            await forever()
        except asyncio.CancelledError:
            return clock.caught() or "", loop.time() - began
        return "", 0.0

    name, seconds = asyncio.run(run())
    assert name == "idle"
    assert seconds >= 0.15


def test_no_wait_goes_on_beyond_the_end_of_all() -> None:
    async def run() -> str:
        clock = Watchdog().clock(0.1)
        clock.set("idle", 0.03)
        clock.more = lambda: 9.0
        try:
            await asyncio.wait_for(forever(), 3)
        except asyncio.CancelledError:
            return clock.caught() or ""
        return ""

    assert asyncio.run(run()) == "total"


def test_a_wait_that_is_set_again_has_no_more_time_than_it_is_given() -> None:
    async def run() -> str:
        clock = Watchdog().clock(9)
        clock.set("idle", 9)
        clock.more = lambda: 9.0
        clock.clear()
        return await asyncio.wait_for(waited(clock, "first_token", 0.02), 3)

    assert asyncio.run(run()) == "first_token"


def test_nothing_is_left_of_closed_clocks() -> None:
    async def run() -> None:
        watchdog = Watchdog()
        for _ in range(1000):
            clock = watchdog.clock(9)
            clock.set("idle", 9)
            clock.beside(3).close()
            clock.close()
            clock.close()
        assert not watchdog._clocks
        await asyncio.sleep(0.05)
        assert not watchdog._ticking  # an idle proxy is not woken
        assert await waited(watchdog.clock(9), "idle", 0.02) == "idle"  # and it begins again

    asyncio.run(run())


def test_a_closed_clock_ends_nothing() -> None:
    async def run() -> None:
        watchdog = Watchdog()
        other, clock = watchdog.clock(9), watchdog.clock(9)
        clock.set("idle", 0.01)
        clock.close()
        await asyncio.sleep(0.05)
        other.close()

    asyncio.run(run())


def test_many_deadlines_at_once_are_each_reported_by_their_own_name() -> None:
    async def run() -> list[str]:
        watchdog = Watchdog()
        names: list[ClockName] = ["connect", "first_token", "idle", "whole", "queue"]
        waits = [waited(watchdog.clock(9), names[at % 5], 0.01 + at % 7 / 100) for at in range(500)]
        return await asyncio.gather(*waits)

    assert asyncio.run(run()) == ["connect", "first_token", "idle", "whole", "queue"] * 100


@pytest.mark.parametrize("name", ["connect", "first_token", "idle", "whole", "total", "queue"])
def test_each_has_an_error_and_nobody_is_asked_after_the_last(name: ClockName) -> None:
    error = timeout(name)
    assert (error.code, error.status) == (f"upstream_timeout_{name}", 504)
    assert error.again == ("never" if name == "total" else "next")
