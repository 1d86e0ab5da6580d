"""Sends a call to the targets of its route in turn until one answers."""

import asyncio
from collections.abc import Callable, Container
from dataclasses import dataclass, field
from functools import partial
from time import monotonic, perf_counter

from proxy.call import Call, Try
from proxy.clocks import Clock, Watchdog, timeout
from proxy.errors import SluiceError, metric_code
from proxy.instruments import Numbers
from proxy.policies.breakers import Breaker, Breakers, Pass
from proxy.policies.queues import Gate
from proxy.policies.retries import Backoff, Budget
from proxy.policies.routes import Choice, Route
from proxy.policies.runs import Hold, Prepared, Run
from proxy.providers.contract import Order, Target
from proxy.secrecy import Blank
from proxy.upstream.attempting import Attempt, Outcome
from proxy.upstream.racing import raced
from proxy.upstream.resuming import Resumption
from proxy.upstream.sending import Upstreams
from proxy.upstream.wire import Stream, Wire


@dataclass(frozen=True, slots=True)
class Hooks:
    """Functions of other stages that dispatch calls."""

    prepare: Callable[[Call, Route], Prepared]
    began: Callable[[str], None]  # called with the upstream when an attempt begins
    ended: Callable[[Target, str], None]  # when it ended, with its outcome: "ok", the error's code, or "cancelled"
    blank: Blank
    health_changed: Callable[[str], None] = lambda upstream: None  # the health of this upstream may have changed


@dataclass(slots=True)
class Dispatch:
    """The loop over the targets of a call, and the attempts at each."""

    upstreams: Upstreams
    hooks: Hooks
    breakers: Breakers
    gates: dict[str, Gate] = field(default_factory=dict)  # of the upstreams with `max_in_flight`
    budgets: dict[str, Budget] = field(default_factory=dict)  # of retries and hedges, by route
    sent: Numbers = field(default_factory=Numbers)  # attempts by upstream; must equal the counts of `upstreams`
    refused: set[str] = field(default_factory=set)  # upstreams that rejected our key when they were last asked
    _watchdog: Watchdog = field(default_factory=Watchdog)

    async def send(self, call: Call, choice: Choice) -> Wire:
        """The answer of the first target that gives one; the caller closes it. Raises SluiceError if all fail."""
        policies = choice.route.policies
        hedge, total = policies.hedge, policies.timeouts.total
        clock = self._watchdog.clock(total if call.timeout is None else min(total, call.left or 0.0))
        try:
            prepared = self.hooks.prepare(call, choice.route)
            call.trace.changes = prepared.changes  # reported with errors too
            run = Run(call, choice, prepared, clock, self._budget(choice.route))
            while True:
                order = run.next_order()
                if order is None:
                    raise run.given_up()
                if hedge is None or not run.left:
                    outcome = await self._tries(run, order, clock, run.hold)
                else:
                    outcome = await raced(run, order, hedge, partial(self._tries, run))
                if isinstance(outcome, Wire):
                    break
                run.failed(outcome, order.target)
        except BaseException:
            clock.close()
            raise
        if outcome.stream is None:  # a whole answer
            clock.close()
            return outcome
        resumes = policies.stream_safety == "resume" and call.chat
        if outcome.clock is None:
            outcome.clock = clock
        elif not resumes:
            clock.close()  # the winner of a race has its own clock
        if resumes:
            outcome.stream = Resumption(run, outcome, partial(self._tries, run))  # uses the run's clock
        return outcome

    def take_over(self, before: "Dispatch", unchanged: Container[str]) -> None:
        """On a reload: keeps the state of unchanged upstreams, and their concurrency gates with the calls inside."""
        self.breakers.take_over(before.breakers, unchanged)
        self.refused |= {name for name in before.refused if name in unchanged}
        self.gates.update({name: gate for name, gate in before.gates.items() if name in unchanged})

    def note_key(self, upstream: str, outcome: str) -> None:
        """Records after an attempt whether the upstream refuses our key."""
        if outcome == "upstream_auth_failed":
            self.refused.add(upstream)
        elif outcome == "ok":
            self.refused.discard(upstream)
        self.hooks.health_changed(upstream)

    def _budget(self, route: Route) -> Budget:
        """The route's retry budget, with this call counted."""
        budget = self.budgets.get(route.name)
        if budget is None:
            budget = self.budgets[route.name] = Budget(route.policies.retry.budget)
        budget.call(monotonic())
        return budget

    async def _tries(self, run: Run, order: Order, clock: Clock, hold: Hold) -> Outcome:
        """Attempts at one target, with the route's retries: its answer, or the error of the last attempt."""
        retry, target = run.policies.retry, order.target
        breaker, gate = self.breakers.of(target.upstream, target.model), self.gates.get(target.upstream)
        for tried in range(1, retry.attempts + 1):
            admitted = breaker.admits(monotonic())
            if admitted == "no":
                return breaker.refusal(target.upstream, target.model, monotonic())
            if gate is not None and (full := await self._entered(gate, run.call, clock, breaker, admitted)):
                return full
            visit = Visit(self, run, order, clock, admitted, gate)
            if admitted == "probe" and hold == "nothing":
                hold = "content"  # content proves that the upstream works
            try:
                return visit.answered(await visit.answer(hold))
            except BaseException as error:
                failure = visit.failed(error)
            finally:
                clock.clear()
            if failure.again != "same" or tried == retry.attempts:
                return failure
            wait = Backoff(retry.backoff, retry.max_backoff).wait(tried, failure.retry_after)
            if wait is None or wait >= clock.left or not run.budget.spend(monotonic()):
                return failure
            asked = perf_counter()
            try:
                await asyncio.sleep(wait)
            finally:
                run.call.trace.waited += perf_counter() - asked
        raise AssertionError("a route allows at least one attempt")

    async def _entered(
        self, gate: Gate, call: Call, clock: Clock, breaker: Breaker, admitted: Pass
    ) -> SluiceError | None:
        """Waits for a free slot of the upstream (`max_in_flight`); returns the error if there is none."""
        asked = perf_counter()
        clock.set("total", clock.left)
        try:
            await gate.enter(call.tenant or "")
        except BaseException as full:
            breaker.abandoned(admitted)
            if isinstance(full, SluiceError):
                return full
            if isinstance(full, asyncio.CancelledError) and (passed := clock.caught()):
                return timeout(passed)
            raise
        finally:
            clock.clear()
            call.trace.waited += perf_counter() - asked
        return None


class Visit(Attempt):
    """One attempt with what it holds: the breaker's admission, a slot of the gate, a count in flight.

    All of them are released once, by `finish`.
    """

    tried: Try | None = None

    def __init__(
        self, dispatch: Dispatch, run: Run, order: Order, clock: Clock, admitted: Pass, gate: Gate | None
    ) -> None:
        Attempt.__init__(self, dispatch.upstreams, run.call, order, run.policies.timeouts, clock, dispatch.sent)
        self.dispatch, self.run, self.admitted = dispatch, run, admitted
        self.gate = gate  # in which it holds a slot
        self.target = target = order.target
        trace = run.call.trace
        trace.upstream, trace.model = target.upstream, target.model
        if trace.tries is not None:
            self.tried = Try(target.upstream, target.model, target.provider.name)
            trace.tries.append(self.tried)
        dispatch.hooks.began(target.upstream)

    def answered(self, wire: Wire) -> Wire:
        """Notes an answer, and returns it. The visit of a stream finishes when the stream is closed."""
        target, trace = self.target, self.call.trace
        trace.attempts += (f"{target.upstream}:{self.status}",)
        trace.upstream, trace.model = target.upstream, target.model
        trace.changes = self.run.prepared.changes + wire.changes
        if wire.stream is None:
            self.finish(None, True)  # the upstream is done, however slowly the client reads
        else:
            if self.tried is not None:
                # Now, since polls will change it, and a stream that others share may outlast the call that is traced.
                self.tried.status = self.status
            wire.after = self.closed
            if self.admitted == "probe" and self.dispatch.breakers.answers((target.upstream, target.model)):
                self.admitted = "call"  # the probe succeeded: others need not wait for the end of the stream
        return wire

    def failed(self, error: BaseException) -> SluiceError:
        """Notes a failed attempt, and returns its error. Re-raises cancellation: the client left."""
        failure = error
        self.waited()
        if isinstance(error, asyncio.CancelledError) and (passed := self.clock.caught()):
            failure = timeout(passed)
        trace = self.call.trace
        if not isinstance(failure, SluiceError):
            trace.attempts += (f"{self.target.upstream}:cancelled",)
            self.finish(None, False)
            raise error
        failure.blank(self.dispatch.hooks.blank)
        refused = self.status if self.status >= 300 else 0  # a failure behind a good status is told by its code
        trace.attempts += (f"{self.target.upstream}:{refused or shortened(failure.code)}",)
        trace.changes = self.run.prepared.changes + self.changes
        self.finish(failure, True)
        return failure

    def closed(self, stream: Stream) -> None:
        """Finishes the visit when the stream of the answer is closed."""
        self.finish(stream.failure, stream.failure is not None or stream.complete)

    def finish(self, failure: SluiceError | None, conclusive: bool) -> None:
        """Releases what the visit holds, and reports its outcome.

        `conclusive`: the outcome says something about the upstream; that a client left does not.
        """
        dispatch, target = self.dispatch, self.target
        at = target.upstream, target.model
        if self.gate is not None:
            self.gate.leave()
        if conclusive:
            dispatch.breakers.noted(at, failure, monotonic(), self.admitted)
        else:
            dispatch.breakers.of(*at).abandoned(self.admitted)
        outcome = "cancelled" if not conclusive else metric_code(failure) if failure else "ok"
        if self.tried is not None:
            self.tried.status = self.tried.status or self.status
            self.tried.end(outcome)
        dispatch.hooks.ended(target, outcome)
        if dispatch.refused or outcome == "upstream_auth_failed":
            dispatch.note_key(target.upstream, outcome)


def shortened(code: str) -> str:
    """An error code as x-sluice-attempts shows it: "unreachable", "timeout_first_token"."""
    return code.removeprefix("upstream_")
