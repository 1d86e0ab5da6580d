"""Figures out of measurements: the number that a row is judged by, medians over rounds, the search for a limit."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

Values = Mapping[str, float]
"""What one round of one row measured: target name -> value."""


@dataclass(frozen=True, slots=True)
class Goal:
    """What a row is judged by: the subject's value, alone or set against another target of the same round."""

    how: Literal["ratio", "difference", "value"]
    limit: float  # at least for a ratio, at most for the others
    against: str = ""
    subject: str = "sluice"

    def score(self, values: Values) -> float | None:
        """The number to judge; None where a target is missing or gave nothing."""
        own, other = values.get(self.subject), values.get(self.against)
        if own is None or (self.how != "value" and not other):
            return None
        match self.how:
            case "ratio":
                return own / (other or 1)
            case "difference":
                return own - (other or 0)
            case "value":
                return own

    def met(self, score: float) -> bool:
        """Whether that is good enough."""
        return score >= self.limit if self.how == "ratio" else score <= self.limit


def medians(rounds: Sequence[Values]) -> dict[str, float]:
    """Each target's median over the rounds that have it."""
    names = dict.fromkeys(name for values in rounds for name in values)
    return {name: median(values[name] for values in rounds if name in values) for name in names}


def judged(goal: Goal, rounds: Sequence[Values]) -> float | None:
    """The median of the rounds' scores: each compares what was measured close together in time."""
    scores = [score for values in rounds if (score := goal.score(values)) is not None]
    return median(scores) if scores else None


def most_that_pass(passes: Callable[[int], bool], start: int, limit: int, precision: float) -> int:
    """The largest number found that passes, up to `limit`: by doubling (or halving), then by bisection. 0: none does.

    `precision`: the search ends where the smallest number that fails is at most so many times larger (1.05: 5 %).
    """
    passed, failed = 0, limit + 1
    at = min(start, limit)
    while failed - passed > 1 and failed > passed * precision:
        if passes(at):
            passed = at
        else:
            failed = at
        if failed > limit:  # nothing has failed yet
            at = min(passed * 2, limit)
        else:
            at = (passed + failed) // 2
    return passed
