"""The clocks of a call: one timer that ends a wait when its deadline passes, and says which deadline that was."""

import asyncio
from collections.abc import Awaitable
from typing import Literal, TypeVar

from proxy.errors import SluiceError

T = TypeVar("T")

ClockName = Literal["connect", "first_token", "idle", "whole", "total", "queue"]


class Clock:
    """Deadlines for the waits of a call.

    `set` before a wait, `clear` after it; a wait whose deadline passes is cancelled, and `caught` then tells a deadline
    from a caller who left. Setting is an assignment: the timer behind it moves only when it fires or must fire earlier.
    """

    __slots__ = ("_at", "_ends", "_ends_as", "_expired", "_loop", "_name", "_task", "_timer", "_timer_at")

    def __init__(self, total: float, ends_as: ClockName = "total") -> None:
        """`total`: seconds until every wait is over, `ends_as`: what that deadline is called."""
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[object] | None = None
        self._ends = self._loop.time() + total
        self._ends_as = ends_as
        self._at: float | None = None
        self._name: ClockName = "total"
        self._expired = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    @property
    def left(self) -> float:
        """Seconds until every wait is over."""
        return self._ends - self._loop.time()

    def set(self, name: ClockName, seconds: float) -> None:
        """The wait that this task begins now may take `seconds`, and no longer than `total` allows."""
        self._task = asyncio.current_task()
        at = self._loop.time() + seconds
        if at < self._ends:
            self._at, self._name = at, name
        else:
            self._at, self._name = self._ends, self._ends_as
        if self._timer is None or self._at < self._timer_at:
            self._arm(self._at)

    def clear(self) -> None:
        """No wait of ours is running."""
        self._at = None

    def caught(self) -> ClockName | None:
        """To be asked on CancelledError: the deadline that caused it, or None where the task itself is to end."""
        if not self._expired:
            return None
        self._expired = False
        return None if self._task is None or self._task.uncancel() > 0 else self._name

    def close(self) -> None:
        """The call is over."""
        self._at = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._fire)
        self._timer_at = at

    def _fire(self) -> None:
        self._timer = None
        if self._at is None:
            return
        if self._loop.time() + 0.0005 < self._at:
            self._arm(self._at)
        else:
            self._at = None
            if self._task is not None:
                self._expired = True
                self._task.cancel()


_WAITED = {
    "connect": "took too long to accept a connection",
    "first_token": "sent no token in time",
    "idle": "fell silent in the middle of its answer",
    "whole": "did not finish its answer in time",
    "total": "did not answer within the time allowed for the whole call",
    "queue": "had no worker for the job in time",
}


def timeout(name: ClockName) -> SluiceError:
    """The error of a clock. A silent upstream is not asked twice; after `total` nobody is."""
    return SluiceError(
        f"upstream_timeout_{name}", f"The upstream {_WAITED[name]}.", again="never" if name == "total" else "next"
    )


async def timed(clock: Clock, name: ClockName, seconds: float, waiting: Awaitable[T]) -> T:
    """The result of a wait, or the error of the deadline that ended it."""
    clock.set(name, seconds)
    try:
        return await waiting
    except asyncio.CancelledError:
        if passed := clock.caught():
            raise timeout(passed) from None
        raise
    finally:
        clock.clear()
