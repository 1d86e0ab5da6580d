"""A lazily re-armed timer per connection: moving a deadline costs two assignments."""

import asyncio
from collections.abc import Callable
from math import inf

from proxy.clocks import LATE, TICK


class Deadline:
    """Calls `expired` once `at` (loop time, seconds) has passed. A timer that fires too early re-arms itself."""

    __slots__ = ("at", "_loop", "_expired", "_timer", "_fires", "_spared")

    def __init__(self, loop: asyncio.AbstractEventLoop, expired: Callable[[], None]) -> None:
        self.at = inf
        self._loop = loop
        self._expired = expired
        self._timer: asyncio.TimerHandle | None = None
        self._fires = inf
        self._spared = False  # the timer was too late, so nobody was timed out

    def set(self, seconds: float) -> None:
        """Moves the deadline to `seconds` from now."""
        self.at = at = self._loop.time() + seconds
        if at < self._fires:
            self._arm(at)

    def clear(self) -> None:
        """Removes the deadline. The timer stays armed, since the next deadline is most likely later."""
        self.at = inf

    def stop(self) -> None:
        """Stops it for good."""
        self.at = inf
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._fires = at
        self._timer = self._loop.call_at(at, self._fire)

    def _fire(self) -> None:
        now, due = self._loop.time(), self._fires
        spared, self._spared = self._spared, False
        self._timer = None
        self._fires = inf
        if self.at == inf:
            return
        # Event loops round timers to milliseconds, up or down.
        if now + 0.001 < self.at:
            self._arm(self.at)
        elif now - due > LATE and not spared:
            # This process was blocked, so data that came in time may be unread: sockets get one turn of the loop first.
            self._spared = True
            self._arm(now + TICK)
        else:
            self.at = inf
            self._expired()
