"""The last calls, for operators: upstream, time, cost; no prompts, no answers."""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from time import time
from typing import Any, Final

from proxy.call import Call, Headers, Trace
from proxy.errors import SluiceError, metric_code
from proxy.usage import NO_USAGE

_NO_FIELDS: Final[dict[str, Any]] = {}
_NO_HEADERS: Final[Headers] = []
_KEPT: Final = 500
_NOT_THE_CLIENTS: Final = ("upstream_", "proxy_")  # prefixes of error codes that operators can do something about
_STEP: Final = 5  # seconds
_STEPS: Final = 120
_TIMES: Final = 500  # times kept per step and upstream, for percentiles
_SHARED_TIMES: Final = 50  # of those, evenly spread, sent to other workers

Steps = Sequence[tuple[int, dict[str, dict[str, Any]]]]
"""Per time step and upstream what a worker has counted, as JSON: `calls`, `errors`, `tokens`, and sorted `times`."""


@dataclass(slots=True)
class History:
    """A ring buffer of ended calls, newest last, and their numbers per time step. Formatted only when read."""

    _tallies: dict[int, dict[str, "Tally"]] = field(default_factory=dict)
    _tallies_now: dict[str, "Tally"] = field(default_factory=dict)
    _step_ends: float = 0.0
    _ended: deque[tuple[Call, float, float]] = field(default_factory=lambda: deque(maxlen=_KEPT))

    def note(self, call: Call, seconds: float) -> None:
        """Adds an ended call. Its texts and headers are dropped, and what its exception refers to."""
        trace = call.trace
        if (failure := trace.failure) is not None:
            # The exception's traceback refers to every frame of the call, and so back to the call: a cycle that would
            # grow old in this buffer, where only the garbage collector's rarest run (the oldest generation) finds it.
            trace.failure = SluiceError(failure.code, failure.message, failure.status)
        call.body, call.fields, call.headers, call.credential = b"", _NO_FIELDS, _NO_HEADERS, None
        if trace.kept is not None:
            trace.kept = None  # the log has its copy
        now = time()
        self._ended.append((call, seconds, now))
        if now >= self._step_ends:
            self._begin_step(now)
        tally = self._tallies_now.get(trace.upstream)
        if tally is None:
            tally = self._tallies_now[trace.upstream] = Tally()
        tally.note(trace, seconds)

    def _begin_step(self, now: float) -> None:
        begins = int(now) // _STEP * _STEP
        self._step_ends = begins + _STEP
        self._tallies_now = self._tallies[begins] = {}
        while len(self._tallies) > _STEPS:
            del self._tallies[next(iter(self._tallies))]

    def steps(self, most: int = _TIMES) -> Steps:
        """The last ten minutes, with at most `most` times per step and upstream."""
        return [
            (second, {name or "none": tally.summary(most) for name, tally in tallies.items()})
            for second, tallies in self._tallies.items()
        ]

    def shared_steps(self) -> Steps:
        """The same, small enough to be sent to another worker at each poll."""
        return self.steps(_SHARED_TIMES)

    def traffic(self, others: Iterable[Steps] = ()) -> dict[str, Any]:
        """The last ten minutes: `{step, points: [{t, upstreams: {NAME: {calls, errors, tokens, ms_p50, ms_p95}}}]}`.

        `others`: the `shared_steps` of the other workers.
        """
        found: dict[int, dict[str, list[dict[str, Any]]]] = {}
        for second, upstreams in chain(self.steps(), *others):
            step = found.setdefault(second, {})
            for name, told in upstreams.items():
                step.setdefault(name, []).append(told)
        points = [
            {"t": second, "upstreams": {name: merge_tallies(each) for name, each in found[second].items()}}
            for second in sorted(found)[-_STEPS:]
        ]
        return {"step": _STEP, "points": points}

    def calls(self, others: Iterable[list[dict[str, Any]]] = ()) -> list[dict[str, Any]]:
        """`[{id, time, door, route, upstream, model, status, code, attempts, tokens, cost, ms}]`, newest first.

        `others`: the calls of the other workers.
        """
        own = [_line(*ended) for ended in reversed(self._ended)]
        return sorted(chain(own, *others), key=lambda line: line["time"], reverse=True)[:_KEPT]


@dataclass(slots=True)
class Tally:
    """The calls of one upstream in one time step."""

    calls: int = 0
    errors: int = 0
    tokens: int = 0
    _times: list[float] = field(default_factory=list)  # milliseconds, of the first _TIMES calls

    def note(self, trace: Trace, seconds: float) -> None:
        """Counts an ended call."""
        self.calls = calls = self.calls + 1
        if trace.failure is not None and trace.failure.code.startswith(_NOT_THE_CLIENTS):
            self.errors += 1
        if trace.usage is not NO_USAGE:
            self.tokens += (trace.usage.input or 0) + (trace.usage.output or 0)
        if calls <= _TIMES:
            self._times.append(seconds * 1000)

    def summary(self, most: int) -> dict[str, Any]:
        """The numbers, and the times in order, thinned to `most`."""
        times = sorted(self._times)
        if len(times) > most:
            times = [times[(2 * at + 1) * len(times) // (2 * most)] for at in range(most)]
        return {"calls": self.calls, "errors": self.errors, "tokens": self.tokens, "times": times}


def merge_tallies(told: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The numbers of one step and upstream, of all workers together, as the admin page draws them."""
    times = sorted((took, each["calls"] / len(each["times"])) for each in told for took in each["times"])
    sums = {key: sum(each[key] for each in told) for key in ("calls", "errors", "tokens")}
    return sums | {"ms_p50": _percentile(times, 0.5), "ms_p95": _percentile(times, 0.95)}


def _percentile(times: Sequence[tuple[float, float]], share: float) -> float | None:
    """A percentile of sorted times, each with the number of calls that it stands for."""
    rest = share * sum(weight for _, weight in times)
    for took, weight in times:
        rest -= weight
        if rest < 0:
            return took
    return times[-1][0] if times else None


def _line(call: Call, seconds: float, ended: float) -> dict[str, Any]:
    trace = call.trace
    return {
        "id": call.id,
        "time": datetime.fromtimestamp(ended, UTC).isoformat(timespec="milliseconds"),
        "door": call.door,
        "route": trace.route or None,
        "upstream": trace.upstream or None,
        "model": trace.model or call.model or None,
        "status": trace.status,
        "code": metric_code(trace.failure) if trace.failure else "ok",
        "attempts": list(trace.attempts),
        "tokens": {"input": trace.usage.input, "output": trace.usage.output, "cached": trace.usage.cached},
        "cost": trace.usage.cost,
        "ms": round(seconds * 1000, 1),
        "first_token_ms": round((trace.content_at - call.began) * 1000, 1) if trace.content_at else None,
        "overhead_ms": round(trace.overhead * 1000, 3) if trace.overhead is not None else None,
        "cache": trace.cache,
        "changes": list(trace.changes),
        "stream": call.stream,
        "tenant": call.tenant,
        "key": call.allowance.key if call.allowance is not None else None,
    }
