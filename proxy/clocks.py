"""The clocks of a call: each ends a wait when its deadline passes, and says which deadline that was."""

import asyncio
from collections.abc import Callable
from typing import Final, Literal

from proxy.errors import SluiceError

TICK: Final = 0.01  # seconds between two looks at the clocks
LATE: Final = 0.1  # seconds that a look may be late before what came in the meantime is read first

ClockName = Literal["connect", "first_token", "idle", "whole", "total", "queue"]


class Watchdog:
    """Looks at the clocks of one event loop every few milliseconds, while there are any.

    So a deadline costs an assignment, not a timer of the loop; it is kept to the tick.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._clocks: set[Clock] = set()
        self._ticking = False
        self._due = 0.0  # when the next look is due
        self._spared = False  # the last look came too late to judge anybody

    def clock(self, total: float, ends_as: ClockName = "total") -> "Clock":
        """A clock. `total`: seconds until every wait is over, `ends_as`: what that deadline is called."""
        clock = Clock(self, self._loop, total, ends_as)
        self._clocks.add(clock)
        if not self._ticking:
            self._ticking = True
            self._look_later()
        return clock

    def forget(self, clock: "Clock") -> None:
        """A call is over."""
        self._clocks.discard(clock)

    def _tick(self) -> None:
        now = self._loop.time()
        # If it was we who stood still, what came meanwhile may lie unread: one turn of the loop for that, but no more.
        self._spared = not self._spared and now - self._due > LATE
        if not self._spared:
            for clock in [clock for clock in self._clocks if clock.at is not None and clock.at <= now]:
                clock.expire()
        if self._clocks:
            self._look_later()
        else:
            self._ticking = False

    def _look_later(self) -> None:
        self._due = self._loop.time() + TICK
        self._loop.call_later(TICK, self._tick)


class Clock:
    """Deadlines for the waits of a call.

    `set` before a wait, `clear` after it; a wait whose deadline passes is cancelled, and `caught` then tells a deadline
    from a caller who left.
    """

    # Defaults stand on the class, so that making one costs next to nothing.
    at: float | None = None  # when the wait that runs now is over, by the loop's time
    more: Callable[[], float] | None = None  # asked when it is over: seconds to go on for; `set` takes it away
    _task: asyncio.Task[object] | None = None
    _expired = False

    def __init__(self, watchdog: Watchdog, loop: asyncio.AbstractEventLoop, total: float, ends_as: ClockName) -> None:
        self._watchdog, self._loop = watchdog, loop
        self._ends = loop.time() + total
        self._ends_as = self._name = ends_as

    @property
    def left(self) -> float:
        """Seconds until every wait is over."""
        return self._ends - self._loop.time()

    def beside(self, total: float, ends_as: ClockName = "total") -> "Clock":
        """Another clock for the same call, which ends no later than this one."""
        left = self.left
        return self._watchdog.clock(*((total, ends_as) if total < left else (left, self._ends_as)))

    def set(self, name: ClockName, seconds: float) -> None:
        """The wait that this task begins now may take `seconds`, and no longer than `total` allows."""
        loop = self._loop
        self._task, self._name, self.more = asyncio.current_task(loop), name, None
        at = loop.time() + seconds
        self.at = at if at < self._ends else self._ends

    def again(self, seconds: float) -> None:
        """The task that `set` was called in begins another wait of the same name."""
        at = self._loop.time() + seconds
        self.at = at if at < self._ends else self._ends

    def clear(self) -> None:
        """No wait of ours is running."""
        self.at = None

    def caught(self) -> ClockName | None:
        """To be asked on CancelledError: the deadline that caused it, or None where the task itself is to end."""
        if not self._expired:
            return None
        self._expired = False
        return None if self._task is None or self._task.uncancel() > 0 else self._name

    def expire(self) -> None:
        """The deadline has passed: ends the wait."""
        if self.at == self._ends:
            self._name = self._ends_as
        elif self.more is not None and (more := self.more()) > 0:
            self.again(more)
            return
        self.at = None
        if self._task is not None and self._task.cancel():  # one that is over already is not to be told
            self._expired = True

    def close(self) -> None:
        """The call is over."""
        self.at = self.more = None
        self._watchdog.forget(self)


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
