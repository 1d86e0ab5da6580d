"""The worker thread and its queue."""

import asyncio
import threading

import pytest

from proxy.embedders.worker import Worker
from proxy.errors import SluiceError


def test_work_is_done_elsewhere_and_in_turn() -> None:
    async def scenario() -> None:
        worker = Worker("test")
        done: list[int] = []

        def work(number: int) -> int:
            done.append(number)
            return threading.get_ident()

        threads = await asyncio.gather(*(worker.run(work, number) for number in range(9)))
        assert done == list(range(9))
        assert len(set(threads)) == 1 and threads[0] != threading.get_ident()
        with pytest.raises(ZeroDivisionError):
            await worker.run(lambda: 1 // 0)
        worker.close()

    asyncio.run(scenario())


def test_the_queue_does_not_grow() -> None:
    async def scenario() -> None:
        worker, gate = Worker("test", most=2), threading.Event()
        waiting = [asyncio.create_task(worker.run(gate.wait)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(SluiceError, match="proxy_overloaded"):
            await worker.run(print)
        gate.set()
        await asyncio.gather(*waiting)
        assert await worker.run(lambda: 7) == 7
        worker.close()
        with pytest.raises(SluiceError, match="proxy_overloaded"):
            await worker.run(print)

    asyncio.run(scenario())


def test_who_leaves_frees_no_place_before_its_time() -> None:
    async def scenario() -> None:
        worker, gate = Worker("test", most=1), threading.Event()
        leaving = asyncio.create_task(worker.run(gate.wait))
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.wait([leaving])
        with pytest.raises(SluiceError, match="proxy_overloaded"):
            await worker.run(print)
        gate.set()
        async with asyncio.timeout(10):
            while True:
                try:
                    assert await worker.run(lambda: 7) == 7
                    break
                except SluiceError:
                    await asyncio.sleep(0.001)
        worker.close()

    asyncio.run(scenario())
