"""Whether and when a failed attempt is repeated at the same target."""

import random
from dataclasses import dataclass, field

WINDOW = 10  # seconds over which retries are compared with calls
ALWAYS = 3  # retries always allowed in a window


@dataclass(slots=True)
class Budget:
    """Limits retries and hedges to a share of the calls of the last ten seconds, to protect a dead upstream."""

    share: float
    _calls: list[int] = field(default_factory=lambda: [0] * WINDOW)
    _spent: list[int] = field(default_factory=lambda: [0] * WINDOW)
    _second: int = 0

    def call(self, now: float) -> None:
        """Counts a call. `now` in seconds of a monotonic clock."""
        second = int(now)
        if second != self._second:
            self._turn(second)
        self._calls[second % WINDOW] += 1

    def spend(self, now: float, share: float | None = None) -> bool:
        """Takes one retry (or hedge, with its own `share`) from the budget; False: the budget is used up."""
        second = int(now)
        if second != self._second:
            self._turn(second)
        if sum(self._spent) >= max(ALWAYS, (self.share if share is None else share) * sum(self._calls)):
            return False
        self._spent[second % WINDOW] += 1
        return True

    def _turn(self, second: int) -> None:
        for past in range(self._second + 1, min(second, self._second + WINDOW) + 1):
            self._calls[past % WINDOW] = self._spent[past % WINDOW] = 0
        self._second = second


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays that double from `first` to `most` seconds, each shortened at random so that callers spread out."""

    first: float
    most: float

    def wait(self, tries: int, asked: float | None) -> float | None:
        """Seconds before the next attempt after `tries` failures; None: the upstream asked for more than `most`.

        `asked`: the upstream's Retry-After, which is used unchanged.
        """
        if asked is not None:
            return asked if asked <= self.most else None
        return float(min(self.most, self.first * 2 ** (tries - 1)) * random.uniform(0.5, 1.0))
