"""Circuit breakers: keep calls away from an upstream model that fails repeatedly; single probes test for recovery."""

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from proxy.errors import SluiceError

_MOST: Final = 1000  # breakers that are kept
_WITHIN: Final = ("upstream_truncated", "upstream_timeout_idle")  # failures after the first content


@dataclass(frozen=True, slots=True)
class Tripping:
    """When a breaker opens (consecutive failures) and for how long (seconds)."""

    failures: int
    open_for: float


Pass = Literal["no", "call", "probe"]
"""The decision of a breaker about a call; a probe is also a normal call."""


@dataclass(slots=True)
class Breaker:
    """The breaker of one model of an upstream. Each `admits` other than "no" is followed by `noted` or `abandoned`.

    While it is open only the result of the probe counts: calls that began before say nothing about the present.
    """

    tripping: Tripping
    failed: int = 0  # consecutive
    cause: SluiceError | None = None  # of the last failure
    open_until: float | None = None  # monotonic; None: closed
    probing: bool = False

    def admits(self, now: float) -> Pass:
        """Whether a call may go there now; when `open_for` is over, one call at a time."""
        if self.open_until is None:
            return "call"
        if self.probing or now < self.open_until:
            return "no"
        self.probing = True
        return "probe"

    def noted(self, failure: SluiceError | None, now: float, admitted: Pass = "call") -> None:
        """Records the end of an attempt: success (None) or a failure."""
        self.abandoned(admitted)
        if (failure is not None and not is_upstream_fault(failure)) or (self.open_until and admitted != "probe"):
            return
        if failure is None:
            self.failed, self.open_until, self.cause = 0, None, None
            return
        self.failed += 1
        self.cause = failure
        if self.failed >= self.tripping.failures or admitted == "probe":
            self.open_until = now + self.tripping.open_for

    def abandoned(self, admitted: Pass) -> None:
        """Records that an attempt ended without a result for the upstream, as when the client left."""
        if admitted == "probe":
            self.probing = False

    def answers(self) -> bool:
        """The probe has its first content and may still take long. Returns whether calls are admitted again.

        One more failure opens the breaker again. First content proves nothing for an upstream that last broke off
        within answers.
        """
        if not self.probing or (self.cause is not None and self.cause.code in _WITHIN):
            return False
        self.probing, self.open_until = False, None
        self.failed = self.tripping.failures - 1
        return True

    def refusal(self, upstream: str, model: str, now: float) -> SluiceError:
        """The error of a call that is kept away: with the code of the last failure, and when to retry."""
        wait = max(0.0, (self.open_until or now) - now)
        code = self.cause.code if self.cause else "upstream_overloaded"
        return SluiceError(
            code,
            f"The model {model!r} of the upstream {upstream} failed {self.failed} times in a row"
            f" and is left alone for {wait:.0f} s more.",
            again="next",
            retry_after=max(1.0, wait),
        )


def is_upstream_fault(failure: SluiceError) -> bool:
    """Whether a failure shows that the upstream is unwell; a rate limit or a client's mistake does not."""
    return failure.code.startswith("upstream_") and failure.code not in (
        "upstream_rate_limited",
        "upstream_not_configured",
        "upstream_timeout_total",
    )


@dataclass(slots=True)
class Breakers:
    """The breakers of all upstreams and models. `changed` is called when one opens or closes."""

    trippings: Mapping[str, Tripping]  # by upstream
    changed: Callable[[str, str, bool], None] = lambda upstream, model, is_open: None
    _breakers: dict[tuple[str, str], Breaker] = field(default_factory=dict)

    def of(self, upstream: str, model: str) -> Breaker:
        """The breaker of one model; idle ones are dropped when there are many."""
        breaker = self._breakers.get((upstream, model))
        if breaker is None:
            if len(self._breakers) >= _MOST:
                self._make_room()
            breaker = self._breakers[upstream, model] = Breaker(self.trippings[upstream])
        return breaker

    def _make_room(self) -> None:
        """Drops closed breakers without failures; if that frees little, since clients invent names, the oldest half."""
        self._breakers = {key: kept for key, kept in self._breakers.items() if kept.failed or kept.probing}
        if len(self._breakers) < _MOST * 3 // 4:
            return
        for key in list(self._breakers)[: _MOST // 2]:
            if self._breakers.pop(key).open_until is not None:
                self.changed(*key, False)

    def noted(self, at: tuple[str, str], failure: SluiceError | None, now: float, admitted: Pass) -> None:
        """Records the end of an attempt at this upstream and model."""
        breaker = self._breakers.get(at)
        if failure is None and (breaker is None or (not breaker.failed and not breaker.probing)):
            return
        breaker = breaker or self.of(*at)
        before = breaker.open_until is not None
        breaker.noted(failure, now, admitted)
        if (after := breaker.open_until is not None) != before:
            self.changed(*at, after)

    def answers(self, at: tuple[str, str]) -> bool:
        """A probe has its first content; returns whether it counts as a normal call from now on."""
        breaker = self._breakers.get(at)
        closes = breaker is not None and breaker.answers()
        if closes:
            self.changed(*at, False)
        return closes

    def take_over(self, before: "Breakers", unchanged: Container[str]) -> None:
        """On a reload: keeps the breakers of unchanged upstreams."""
        for (upstream, model), breaker in before._breakers.items():
            if upstream in unchanged and before.trippings[upstream] == self.trippings[upstream]:
                self._breakers[upstream, model] = breaker
            elif breaker.open_until is not None:
                self.changed(upstream, model, False)

    def open(self) -> list[tuple[str, str, Breaker]]:
        """The open breakers."""
        return [(*key, kept) for key, kept in self._breakers.items() if kept.open_until is not None]
