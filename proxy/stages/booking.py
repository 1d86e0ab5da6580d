"""Counts the usage of every ended call by day, key, upstream and model, for the ledger."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from time import time
from typing import Final

from proxy.call import Call, Trace
from proxy.store.contract import Counts, Line
from proxy.usage import NO_USAGE

_MOST: Final = 5_000  # lines kept while the store is unavailable; new ones then count as `other`
_KEPT: Final = ("hit", "shared", "similar")  # values of x-sluice-cache for which no upstream was asked


@dataclass(slots=True)
class Books:
    """Usage since the last `take`. This month's costs by key are kept apart, since every call looks at them."""

    day: str = ""  # the current day: "2026-11-28", UTC
    day_ends: float = 0.0  # seconds since 1970
    costs: dict[str, float] = field(default_factory=dict)  # USD of this month, by key
    _now: dict[tuple[str, str, str], Counts] = field(default_factory=dict)  # by key, upstream and model
    _before: dict[Line, Counts] = field(default_factory=dict)  # of days that are over

    def note(self, call: Call, model: str) -> None:
        """Counts an ended call; `model`: its name if the catalogue knows it, else "other"."""
        now = time()
        if now >= self.day_ends:
            self.turn(now)
        allowance, trace = call.allowance, call.trace
        key = call.tenant if allowance is None else allowance.key
        if key is None:
            return  # refused before it had a tenant
        place = (key, trace.upstream, model)
        counts = self._now.get(place)
        if counts is None:
            counts = self._begun(place)
        counts.calls += 1
        if trace.failure is not None:
            counts.failed += 1
        usage = trace.usage
        if usage is NO_USAGE:
            if trace.attempts and _unknown(trace):
                counts.unpriced += 1
            return
        counts.input += usage.input or 0
        counts.output += usage.output or 0
        counts.cached += usage.cached or 0
        counts.reasoning += usage.reasoning or 0
        if usage.cost is None:
            counts.unpriced += 1
        elif usage.cost:
            counts.cost += usage.cost
            self.costs[key] = self.costs.get(key, 0.0) + usage.cost

    def _begun(self, place: tuple[str, str, str]) -> Counts:
        key, upstream, model = place
        if len(self._now) + len(self._before) >= _MOST:
            place = (key, "other", "other")
        elif not upstream:
            place = (key, "", "")  # no upstream was asked
        found = self._now.get(place)
        if found is None:
            found = self._now[place] = Counts()
        return found

    def turn(self, now: float) -> None:
        """Starts a new day if the calendar has."""
        self._close()
        date = datetime.fromtimestamp(now, UTC).date()
        if f"{date}"[:7] != self.day[:7]:
            self.costs = {}
        self.day = str(date)
        ends = datetime(date.year, date.month, date.day, tzinfo=UTC) + timedelta(days=1)
        self.day_ends = ends.timestamp()

    def take(self) -> tuple[dict[Line, Counts], dict[str, float]]:
        """The usage since the last call of this, and the part of it that is cost of this month."""
        self._close()
        taken, self._before = self._before, {}
        costs, self.costs = self.costs, {}
        return taken, costs

    def _close(self) -> None:
        for (key, upstream, model), counts in self._now.items():
            line = (key, self.day, upstream, model)
            had = self._before.get(line)
            self._before[line] = counts if had is None else had + counts
        self._now = {}


def _unknown(trace: Trace) -> bool:
    """Whether an upstream worked for this call without reporting usage."""
    answered = trace.failure is None or trace.content_at is not None
    return answered and not trace.cache.startswith(_KEPT)
