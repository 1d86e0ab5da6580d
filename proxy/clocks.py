"""The clocks of a call: one timer that ends a wait when its deadline passes, and says which deadline that was."""

import asyncio
from typing import Literal

ClockName = Literal["connect", "first_token", "idle", "whole", "total", "queue"]


class Clock:
    """Deadlines for the waits of the task that made it.

    `set` before a wait, `clear` after it; a wait whose deadline passes is cancelled, and `caught` then tells a deadline
    from a caller who left. Setting is an assignment: the timer behind it moves only when it fires or must fire earlier.
    """

    __slots__ = ("_at", "_ends", "_expired", "_loop", "_name", "_task", "_timer", "_timer_at")

    def __init__(self, total: float) -> None:
        self._loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None, "a clock belongs to a task"
        self._task = task
        self._ends = self._loop.time() + total
        self._at: float | None = None
        self._name: ClockName = "total"
        self._expired = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    @property
    def left(self) -> float:
        """Seconds until `total` is over."""
        return self._ends - self._loop.time()

    def set(self, name: ClockName, seconds: float) -> None:
        """The wait that begins now may take `seconds`, and no longer than `total` allows."""
        at = self._loop.time() + seconds
        if at < self._ends:
            self._at, self._name = at, name
        else:
            self._at, self._name = self._ends, "total"
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
        return None if self._task.uncancel() > 0 else self._name

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
            self._expired = True
            self._task.cancel()
