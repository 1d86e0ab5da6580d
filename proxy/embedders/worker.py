"""A thread for work that would block the event loop, with a bounded queue."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from proxy.errors import SluiceError

T = TypeVar("T")

MOST: Final = 32  # queued jobs


class Worker:
    """Runs one job at a time, in order."""

    def __init__(self, name: str, most: int = MOST) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._most = most
        self._waiting = 0
        self._lock = threading.Lock()
        self._closed = False

    async def run(self, work: Callable[..., T], *given: Any) -> T:
        """The result of the job. Raises proxy_overloaded if the queue is full, or after `close`."""
        if self._closed or self._waiting >= self._most:
            raise SluiceError("proxy_overloaded", "Too many texts are waiting to be compared.")
        with self._lock:
            self._waiting += 1
        future = self._pool.submit(work, *given)
        future.add_done_callback(self._done)
        return await asyncio.wrap_future(future)

    def begin(self, work: Callable[[], object]) -> None:
        """Queues a job that nobody waits for; its failure is ignored."""
        self._pool.submit(work)

    def _done(self, future: object) -> None:
        with self._lock:  # called in the thread, so the waiting call may be gone
            self._waiting -= 1

    def close(self) -> None:
        """Ends the thread after the queued jobs."""
        self._closed = True
        self._pool.shutdown(wait=False)
