"""One call's way through its targets: which is next, what failures imply, and which error the caller gets."""

from collections import deque
from typing import Literal, Protocol

from proxy.call import Call
from proxy.clocks import Clock
from proxy.errors import SluiceError
from proxy.policies.retries import Budget
from proxy.policies.routes import Choice
from proxy.providers.contract import Order, Target

Hold = Literal["nothing", "content", "all"]
"""Which events of a stream are held back: none, those before the first content, or all."""


class Prepared(Protocol):
    """A call after its route's rules."""

    @property
    def changes(self) -> tuple[str, ...]:
        """What the rules changed."""
        ...

    def order(self, target: Target) -> Order:
        """The call for one target. Raises the reason why it cannot be asked."""
        ...

    def context(self, target: Target) -> int | None:
        """The context length of the target's model, where it is known."""
        ...


class Run:
    """A call in progress. Failures are reported to `failed`; the caller gets the failure of the first target."""

    def __init__(self, call: Call, choice: Choice, prepared: Prepared, clock: Clock, budget: Budget) -> None:
        self.call, self.prepared, self.clock, self.budget = call, prepared, clock, budget
        self.policies = choice.route.policies
        self.left = deque(choice.targets)
        self._refused: SluiceError | None = None
        self._failed: SluiceError | None = None
        self._failed_at: Target | None = None
        self._changed: tuple[str, ...] = ()  # what was done to the call for that target

    @property
    def hold(self) -> Hold:
        """How much of a stream is held back, since another target could still answer instead."""
        if self.policies.stream_safety == "whole":
            return "all"
        return "content" if self.left else "nothing"

    def next_order(self) -> Order | None:
        """The order for the next target that can be asked; None: there is none left."""
        while self.left:
            try:
                return self.prepared.order(self.left.popleft())
            except SluiceError as refusal:
                self._refused = self._refused or refusal
        return None

    def failed(self, failure: SluiceError, target: Target) -> None:
        """A target failed. Raises if no other may be asked after that."""
        if failure.code == "upstream_timeout_total":
            raise failure
        if self._failed is None:
            self._failed, self._failed_at, self._changed = failure, target, self.call.trace.changes
        if failure.code == "context_length_exceeded":
            most = self.prepared.context(target)
            self.left = deque(each for each in self.left if most and (self.prepared.context(each) or 0) > most)
        elif failure.again == "never":
            raise self.given_up()

    def given_up(self) -> SluiceError:
        """The error for the caller once every target has failed: the first one's, with that target in the trace."""
        cause = self._failed or self._refused
        assert cause is not None, "a route has at least one target"
        if self._failed_at is not None:
            trace, target = self.call.trace, self._failed_at
            trace.upstream, trace.model, trace.changes = target.upstream, target.model, self._changed
        if cause.code.startswith("upstream_") and cause.retry_after is None:
            cause.should_retry = False  # trying again at once cannot help
        return cause
