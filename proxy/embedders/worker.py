"""A thread for work that would hold up the event loop, with a queue that does not grow."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from proxy.errors import SluiceError

T = TypeVar("T")

MOST: Final = 32  # pieces of work that may wait


class Worker:
    """One piece of work at a time, in turn."""

    def __init__(self, name: str, most: int = MOST) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._most = most
        self._waiting = 0

    async def run(self, work: Callable[..., T], *given: Any) -> T:
        """What the work gives. Raises proxy_overloaded where too much is waiting already."""
        if self._waiting >= self._most:
            raise SluiceError("proxy_overloaded", "Too many texts are waiting to be compared.")
        self._waiting += 1
        future = self._pool.submit(work, *given)
        future.add_done_callback(lambda done: loop.call_soon_threadsafe(self._done) if not loop.is_closed() else None)
        loop = asyncio.get_running_loop()
        return await asyncio.wrap_future(future)

    def _done(self) -> None:
        self._waiting -= 1

    def close(self) -> None:
        """Ends the thread once it is done with what it has begun."""
        self._pool.shutdown(wait=False, cancel_futures=True)
