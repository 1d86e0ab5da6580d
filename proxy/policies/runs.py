"""One call's way over its targets: which is next, what the failures so far mean, and what the caller is told."""

from collections import deque
from dataclasses import dataclass, field
from typing import Literal, Protocol

from proxy.call import Call
from proxy.clocks import Clock
from proxy.errors import SluiceError
from proxy.policies.retries import Budget
from proxy.policies.routes import Choice, Policies
from proxy.providers.contract import Order, Target

Hold = Literal["nothing", "content", "all"]
"""Events of a stream that are kept back: none, those before the first with content, or all of them."""


class Prepared(Protocol):
    """A call after its route's rules."""

    @property
    def changes(self) -> tuple[str, ...]:
        """What the rules did."""
        ...

    def order(self, target: Target) -> Order:
        """The call for one target. Raises why that cannot be asked."""
        ...

    def context(self, target: Target) -> int | None:
        """The tokens that the target's model can take, where that is known."""
        ...


@dataclass(slots=True)
class Run:
    """A call on its way. Failures are told by `failed`; the cause of the first target is what the caller gets."""

    call: Call
    choice: Choice
    prepared: Prepared
    clock: Clock
    budget: Budget
    policies: Policies = field(init=False)  # the route's
    left: deque[Target] = field(init=False)
    _refused: SluiceError | None = field(default=None, init=False)
    _failed: SluiceError | None = field(default=None, init=False)
    _failed_at: Target | None = field(default=None, init=False)
    _changed: tuple[str, ...] = field(default=(), init=False)  # what was done to the call for that target

    def __post_init__(self) -> None:
        self.policies = self.choice.route.policies
        self.left = deque(self.choice.targets)

    @property
    def hold(self) -> Hold:
        """How much of a stream is kept back, since another target could still answer instead."""
        if self.policies.stream_safety == "whole":
            return "all"
        return "content" if self.left else "nothing"

    def next_order(self) -> Order | None:
        """What the next target that can be asked is to get; None: there is none left."""
        while self.left:
            try:
                return self.prepared.order(self.left.popleft())
            except SluiceError as refusal:
                self._refused = self._refused or refusal
        return None

    def failed(self, failure: SluiceError, target: Target) -> None:
        """A target gave no answer. Raises where no other may be asked after that."""
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
        """What the caller gets once every target has failed: the first one's failure, told as that one's."""
        cause = self._failed or self._refused
        assert cause is not None, "a route has at least one target"
        if self._failed_at is not None:
            trace, target = self.call.trace, self._failed_at
            trace.upstream, trace.model, trace.changes = target.upstream, target.model, self._changed
        if cause.code.startswith("upstream_") and cause.retry_after is None:
            cause.should_retry = False  # trying again at once cannot help
        return cause
