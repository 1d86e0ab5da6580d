"""Names are looked up beside each other, each by one thread."""

import asyncio
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from proxy.upstream.connection import Connection
from proxy.upstream.dialing import dial
from proxy.upstream.resolving import Address, Resolver
from tests.upstream.conftest import Run
from tests.upstream.rawserver import HELLO, answering, serving

HERE: Address = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 1))


class Silent:
    """A name server that answers when it is told to."""

    def __init__(self) -> None:
        self.asked = 0
        self.speaks = threading.Event()
        self.answer: list[Address] | OSError = [HERE]

    def __call__(self) -> list[Address]:
        self.asked += 1
        self.speaks.wait(10)
        if isinstance(self.answer, OSError):
            raise self.answer
        return self.answer


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_threads_that_wait_for_other_names_keep_nobody_waiting(run: Run, host: str) -> None:
    async def main() -> None:
        loop, others = asyncio.get_running_loop(), threading.Event()
        loop.set_default_executor(ThreadPoolExecutor(1))
        loop.run_in_executor(None, others.wait)
        silent = Silent()
        waiting = [asyncio.create_task(Resolver(f"{number}.example", 1, silent).addresses()) for number in range(20)]
        try:
            async with serving(answering(HELLO)) as server, asyncio.timeout(5):
                connection = await dial(Resolver(host, server.port), None, lambda: Connection(lambda _: None))
                connection.abort()
        finally:
            others.set()
            silent.speaks.set()
        assert await asyncio.gather(*waiting) == [[HERE]] * 20

    run(main())


def test_many_waiters_for_one_name_share_a_look_up_and_later_ones_start_another(run: Run) -> None:
    async def main() -> None:
        silent = Silent()
        resolver = Resolver("silent.example", 1, silent)
        impatient, *patient = [asyncio.create_task(resolver.addresses()) for _ in range(9)]
        await asyncio.sleep(0)
        impatient.cancel()
        silent.speaks.set()
        assert await asyncio.gather(*patient) == [[HERE]] * 8
        assert impatient.cancelled() and silent.asked == 1
        silent.answer = OSError("gone")
        for _ in range(2):
            with pytest.raises(OSError, match="gone"):
                await resolver.addresses()
        silent.answer = []
        with pytest.raises(OSError, match="no address"):
            await resolver.addresses()
        assert silent.asked == 4

    run(main())
