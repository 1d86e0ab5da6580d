"""Hedging: two targets are asked concurrently; the first answer wins, the other attempt is cancelled."""

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
    """The result of one target, and the target's part of the trace, which both racers write to."""

    outcome: Outcome
    state: TargetState


async def raced(run: Run, order: Order, hedge: Hedge, tries: Tries) -> Outcome:
    """The answer of one target, or of a second one that is asked too if the first is slow."""
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
        except asyncio.CancelledError:  # the call itself was cancelled: the winner's answer is closed too
            await _let_go(racers, None)
            raise
        if winner is not None:
            trace.target_state = winner.state  # the other racer may have overwritten it
        trace.waited = min(trace.waited, waited + perf_counter() - asked)  # both waits ran concurrently


async def _race(run: Run, order: Order, tries: Tries) -> RacerResult:
    """The attempts at one target, with a clock of their own, since two targets are waited for at once."""
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
    """The first answer, else the failure of the first target."""
    waiting = set(racers)
    while waiting:
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for racer in racers:
            if racer in done and isinstance(racer.result().outcome, Wire):
                return racer.result()
    for order, racer in zip(orders, racers, strict=True):  # in the order of the route, not of the race
        lost = racer.result()
        if not isinstance(lost.outcome, Wire):
            run.call.trace.target_state = lost.state
            run.failed(lost.outcome, order.target)
    return racers[0].result()


async def _let_go(racers: list[asyncio.Task[RacerResult]], winner: RacerResult | None) -> None:
    """Cancels the other racers, and closes answers that came too late."""
    if running := [racer for racer in racers if not racer.done()]:
        for racer in running:
            racer.cancel()
        await asyncio.wait(running)
    for racer in racers:
        if not racer.cancelled() and racer.result() is not winner and isinstance(late := racer.result().outcome, Wire):
            await late.aclose()
