"""Two targets of a call at the same time: the first answer wins, the other target is let go of."""

import asyncio
from dataclasses import dataclass
from time import monotonic, perf_counter

from proxy.call import TargetState
from proxy.policies.routes import Hedge
from proxy.policies.runs import Run
from proxy.providers.contract import Order
from proxy.upstream.attempting import Outcome, Tries
from proxy.upstream.wire import Wire


@dataclass(frozen=True, slots=True)
class RacerResult:
    """What came of one target, and what the call's trace told of it then: the other one writes there too."""

    outcome: Outcome
    state: TargetState


async def raced(run: Run, order: Order, hedge: Hedge, tries: Tries) -> Outcome:
    """One target, and a second beside it where the first is slow."""
    orders, racers = [order], [asyncio.create_task(_race(run, order, tries))]
    winner: RacerResult | None = None
    trace, asked, waited = run.call.trace, perf_counter(), run.call.trace.waited
    try:
        await asyncio.wait(racers, timeout=hedge.after)
        if not racers[0].done() and run.budget.spend(monotonic(), hedge.budget) and (other := run.next_order()):
            orders.append(other)
            racers.append(asyncio.create_task(_race(run, other, tries)))
        winner = await _first_answer(run, orders, racers)
        return winner.outcome
    finally:
        try:
            await _let_go(racers, winner)
        except asyncio.CancelledError:  # the call ends in the meantime: nobody is there to take the winner's answer
            await _let_go(racers, None)
            raise
        if winner is not None:
            trace.target_state = winner.state  # the other may have answered too by now, or asked again
        trace.waited = min(trace.waited, waited + perf_counter() - asked)  # for both at the same time


async def _race(run: Run, order: Order, tries: Tries) -> RacerResult:
    """The tries at one target by a clock of their own, since another target is waited for at the same time."""
    clock = run.clock.beside(run.clock.left)
    won = False
    try:
        outcome = await tries(order, clock, "all" if run.hold == "all" else "content")
        if won := isinstance(outcome, Wire) and outcome.stream is not None:
            outcome.clock = clock
        return RacerResult(outcome, run.call.trace.target_state)
    finally:
        if not won:
            clock.close()


async def _first_answer(run: Run, orders: list[Order], racers: list[asyncio.Task[RacerResult]]) -> RacerResult:
    """The first of them that is an answer, else the failure of the first."""
    waiting = set(racers)
    while waiting:
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for racer in racers:
            if racer in done and isinstance(racer.result().outcome, Wire):
                return racer.result()
    for order, racer in zip(orders, racers, strict=True):  # in the route's order, not in that of the race
        lost = racer.result()
        if not isinstance(lost.outcome, Wire):
            run.call.trace.target_state = lost.state
            run.failed(lost.outcome, order.target)
    return racers[0].result()


async def _let_go(racers: list[asyncio.Task[RacerResult]], winner: RacerResult | None) -> None:
    """Ends all other racers, and lets go of what they won too late."""
    if running := [racer for racer in racers if not racer.done()]:
        for racer in running:
            racer.cancel()
        await asyncio.wait(running)
    for racer in racers:
        if not racer.cancelled() and racer.result() is not winner and isinstance(late := racer.result().outcome, Wire):
            await late.aclose()
