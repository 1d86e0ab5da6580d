"""Sends a call to its route's targets in turn until one answers."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Protocol

from proxy.call import Call
from proxy.clocks import Clock
from proxy.errors import SluiceError
from proxy.policies.retries import Backoff, Budget
from proxy.policies.routes import Choice, Route
from proxy.providers.contract import Order, Target
from proxy.upstream.attempting import Attempt
from proxy.upstream.sending import Upstreams
from proxy.upstream.wire import Wire


class Prepared(Protocol):
    """A call after its route's rules."""

    @property
    def changes(self) -> tuple[str, ...]:
        """What the rules did."""
        ...

    def order(self, target: Target) -> Order:
        """The call for one target. Raises why that cannot be asked."""
        ...


@dataclass(frozen=True, slots=True)
class Helpers:
    """What other stages do for dispatch."""

    prepare: Callable[[Call, Route], Prepared]
    attempted: Callable[[Target, str], None]  # counts an attempt by its outcome: "ok" or the error's code
    blank: Callable[[str], str]  # takes every configured secret out of a text


@dataclass(slots=True)
class Dispatch:
    """The loop over targets and tries. `budgets` are per route."""

    upstreams: Upstreams
    helpers: Helpers
    budgets: dict[str, Budget] = field(default_factory=dict)
    sent: dict[str, int] = field(default_factory=dict)  # attempts per upstream: must equal what `upstreams` counts

    async def send(self, call: Call, choice: Choice) -> Wire:
        """The answer of the first target that gives one, to be used as `async with`, which lets go of it at the end."""
        total = choice.route.policies.timeouts.total
        clock = Clock(min(total, call.timeout) if call.timeout else total)
        try:
            wire = await self._first(call, choice, clock)
        except BaseException:
            clock.close()
            raise
        wire.clock = clock
        return wire

    async def _first(self, call: Call, choice: Choice, clock: Clock) -> Wire:
        retry = choice.route.policies.retry
        budget = self.budgets.get(choice.route.name)
        if budget is None:
            budget = self.budgets[choice.route.name] = Budget(retry.budget)
        budget.call(monotonic())
        prepared = self.helpers.prepare(call, choice.route)
        refused: SluiceError | None = None
        failed: SluiceError | None = None
        last = len(choice.targets) - 1
        for at, target in enumerate(choice.targets):
            try:
                order = prepared.order(target)
            except SluiceError as refusal:
                refused = refused or refusal
                continue
            outcome = await self._tries(call, choice, order, Tries(clock, budget, hold=at < last))
            if isinstance(outcome, Wire):
                call.trace.changes = prepared.changes + outcome.changes
                return outcome
            failed = failed or outcome
            if outcome.again == "never":
                raise outcome if outcome.code.startswith(("client_", "upstream_timeout_total")) else failed
        cause = failed or refused
        assert cause is not None, "a route has at least one target"
        raise given_up(cause)

    async def _tries(self, call: Call, choice: Choice, order: Order, tries: "Tries") -> Wire | SluiceError:
        """The tries at one target: its answer, or why it gave none."""
        policies, target = choice.route.policies, order.target
        backoff = Backoff(policies.retry.backoff, policies.retry.max_backoff)
        for tried in range(1, policies.retry.attempts + 1):
            attempt = Attempt(self.upstreams, call, order, policies.timeouts, tries.clock)
            call.trace.upstream, call.trace.model = target.upstream, target.model
            self.sent[target.upstream] = self.sent.get(target.upstream, 0) + 1
            try:
                wire = await attempt.answer(tries.hold)
            except SluiceError as failure:
                failure.message = self.helpers.blank(failure.message)
                call.trace.attempts.append(f"{target.upstream}:{attempt.status or shortened(failure.code)}")
                self.helpers.attempted(target, failure.code)
                if failure.again != "same" or tried == policies.retry.attempts:
                    return failure
                wait = backoff.wait(tried, failure.retry_after)
                if wait is None or wait >= tries.clock.left or not tries.budget.spend(monotonic()):
                    return failure
                await asyncio.sleep(wait)
            else:
                call.trace.attempts.append(f"{target.upstream}:{attempt.status}")
                self.helpers.attempted(target, "ok")
                return wire
        raise AssertionError("a route allows at least one attempt")


@dataclass(frozen=True, slots=True)
class Tries:
    """What the tries of one call share."""

    clock: Clock
    budget: Budget
    hold: bool  # another target could still answer


def shortened(code: str) -> str:
    """An error's code as x-sluice-attempts shows it: "unreachable", "timeout_first_token"."""
    return code.removeprefix("upstream_")


def given_up(cause: SluiceError) -> SluiceError:
    """The cause as the caller gets it once every target has failed: trying again at once cannot help."""
    if cause.code.startswith("upstream_") and cause.retry_after is None:
        cause.should_retry = False
    return cause
