"""Deadlines of a call: each ends a wait by cancelling it, and reports which deadline it was."""

import asyncio
from collections.abc import Callable
from functools import cached_property
from typing import Final, Literal

from proxy.errors import SluiceError

TICK: Final = 0.01  # seconds between two checks of the clocks
LATE: Final = 0.1  # seconds that a check may be late before sockets are read first

ClockName = Literal["connect", "first_token", "idle", "whole", "total", "queue"]


class Watchdog:
    """Checks all clocks of one event loop every 10 ms, while there are any.

    Setting a deadline is then an assignment and needs no timer of the event loop; the price is a precision of 10 ms.
    """

    def __init__(self) -> None:
        self._clocks: set[Clock] = set()
        self._ticking = False
        self._due = 0.0  # when the next check is due
        self._spared = False  # the last check was too late, so no clock was expired

    def clock(self, total: float, ends_as: ClockName = "total") -> "Clock":
        """A new clock. `total`: seconds until every wait is over, `ends_as`: the name of that deadline."""
        clock = Clock(self, self._loop, total, ends_as)
        self._clocks.add(clock)
        if not self._ticking:
            self._ticking = True
            self._look_later()
        return clock

    def forget(self, clock: "Clock") -> None:
        """Removes the clock of a call that is over."""
        self._clocks.discard(clock)

    @cached_property
    def _loop(self) -> asyncio.AbstractEventLoop:
        """The loop of the first clock; kept, since asyncio looks up the process id each time it is asked."""
        return asyncio.get_running_loop()

    def _tick(self) -> None:
        now = self._loop.time()
        # If this process was blocked, data that came in time may be unread: sockets get one turn of the loop first.
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

    Call `set` before a wait and `clear` after it. A wait whose deadline passes is cancelled; on CancelledError,
    `caught` tells whether a deadline or the caller caused it.
    """

    # Defaults are class attributes, so that making a clock costs next to nothing.
    at: float | None = None  # deadline of the current wait (loop.time()); None: no wait
    more: Callable[[], float] | None = None  # called at the deadline: seconds to extend it by; reset by `set`
    _task: asyncio.Task[object] | None = None
    _expired = False

    def __init__(self, watchdog: Watchdog, loop: asyncio.AbstractEventLoop, total: float, ends_as: ClockName) -> None:
        self._watchdog, self._loop = watchdog, loop
        self._ends = loop.time() + total
        self._ends_as = self._name = ends_as

    @property
    def left(self) -> float:
        """Seconds until the total deadline."""
        return self._ends - self._loop.time()

    def beside(self, total: float, ends_as: ClockName = "total") -> "Clock":
        """Another clock for the same call, which ends no later than this one."""
        left = self.left
        return self._watchdog.clock(*((total, ends_as) if total < left else (left, self._ends_as)))

    def set(self, name: ClockName, seconds: float) -> None:
        """Starts a deadline for a wait of the current task: in `seconds`, but no later than the total deadline."""
        loop = self._loop
        self._task, self._name, self.more = asyncio.current_task(loop), name, None
        at = loop.time() + seconds
        self.at = at if at < self._ends else self._ends

    def again(self, seconds: float) -> None:
        """Restarts the deadline for the next wait of the same task under the same name."""
        at = self._loop.time() + seconds
        self.at = at if at < self._ends else self._ends

    def clear(self) -> None:
        """Ends the deadline: no wait is running."""
        self.at = None

    def caught(self) -> ClockName | None:
        """To be called on CancelledError: the deadline that caused it; None: the task itself was cancelled."""
        if not self._expired:
            return None
        self._expired = False
        return None if self._task is None or self._task.uncancel() > 0 else self._name

    def expire(self) -> None:
        """The deadline has passed: cancels the wait."""
        if self.at == self._ends:
            self._name = self._ends_as
        elif self.more is not None and (more := self.more()) > 0:
            self.again(more)
            return
        self.at = None
        if self._task is not None and self._task.cancel():  # False where the task is done already
            self._expired = True

    def close(self) -> None:
        """The call is over: no deadline of this clock fires any more."""
        self.at = self.more = None
        self._watchdog.forget(self)


_WAITED = {
    "connect": "took too long to accept a connection",
    "first_token": "sent no token in time",
    "idle": "stopped sending in the middle of its answer",
    "whole": "did not finish its answer in time",
    "total": "did not answer within the time allowed for the whole call",
    "queue": "had no worker for the job in time",
}


def timeout(name: ClockName) -> SluiceError:
    """The error of a passed deadline. A silent upstream is not asked again; after `total` no upstream is."""
    return SluiceError(
        f"upstream_timeout_{name}", f"The upstream {_WAITED[name]}.", again="never" if name == "total" else "next"
    )
