"""What callers do during a fault: mostly one call, else repeated calls, slow reading, or leaving."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proxy.selftest.judging import Expectation, Judgement, judge, time_limit, worst
from proxy.selftest.receiving import Received
from proxy.selftest.staging import Stage
from proxy.selftest.wire import Asked
from proxy.selftest.words import tokens_for

CANCEL_WITHIN: Final = 0.2  # seconds within which an upstream must notice that the client has left
PAUSE: Final = 0.3  # unscaled seconds between the two attempts during which a caller leaves; more than CANCEL_WITHIN
EVERY: Final = 2.0  # seconds between calls while an upstream is down, unscaled
_HELD: Final = 8 * 2**20  # bytes that Sluice may buffer for a reader that reads nothing
_KERNEL: Final = (Path("/proc/sys/net/ipv4/tcp_rmem"), Path("/proc/sys/net/ipv4/tcp_wmem"))


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of an episode. `received`: the (last) answer; `judgement` None: it could not be played."""

    judgement: Judgement | None
    received: Received | None = None
    note: str = ""  # what else the card says about the caller


Episode = Callable[[Stage, Expectation], Awaitable[Outcome]]


async def once(stage: Stage, expects: Expectation) -> Outcome:
    """One streamed call."""
    return await _judged(stage, expects, streamed=True)


async def once_whole(stage: Stage, expects: Expectation) -> Outcome:
    """One call for a whole answer."""
    return await _judged(stage, expects, streamed=False)


async def _judged(stage: Stage, expects: Expectation, streamed: bool) -> Outcome:
    caller, received = await stage.ask(0, time_limit(expects, stage.terms), streamed)
    full_text = "".join(tokens_for(caller.question))
    return Outcome(judge(expects, full_text, received, stage.seen(), stage.terms), received)


def series(count: int) -> Episode:
    """So many calls, one after the other."""

    async def episode(stage: Stage, expects: Expectation) -> Outcome:
        judgements, received = [], None
        for at in range(count):
            judgement, received = await _one_of_many(stage, expects, at)
            judgements.append(judgement)
        answered = sum(each.verdict == "pass" for each in judgements)
        found = worst([*judgements, _amplified(stage, count)])
        return Outcome(found, received, f"{answered} of {count} calls answered")

    return episode


def back_after(down: float, within: float) -> Episode:
    """Repeats calls while the first target is down for `down` seconds, until it answers again."""

    async def episode(stage: Stage, expects: Expectation) -> Outcome:
        scale, loop, began = stage.terms.scale, asyncio.get_running_loop(), asyncio.get_running_loop().time()
        judgements: list[Judgement] = []
        while True:
            judgement, received = await _one_of_many(stage, expects, len(judgements))
            judgements.append(judgement)
            past = (loop.time() - began) / scale
            if any(asked.status == 200 for asked in stage.upstreams.at(0)):
                break
            if past > down + within + 0.5 / scale:
                judgements.append(
                    Judgement("fail", f"the first target was not used again within {within:.0f} s of its recovery")
                )
                break
            await asyncio.sleep(EVERY * scale)
        answered = sum(each.verdict == "pass" for each in judgements)
        recovered = f"first target used again {max(0.0, past - down):.0f} s after its recovery"
        note = f"{answered} of {len(judgements)} calls answered, {recovered}"
        return Outcome(worst([*judgements, _amplified(stage, len(judgements))]), received, note)

    return episode


async def _one_of_many(stage: Stage, expects: Expectation, at: int) -> tuple[Judgement, Received]:
    """One call among others, judged by the requests that it caused itself."""
    before = len(stage.upstreams.asked)
    caller, received = await stage.ask(at, time_limit(expects, stage.terms))
    full_text = "".join(tokens_for(caller.question))
    return judge(expects, full_text, received, stage.seen()[before:], stage.terms), received


def _amplified(stage: Stage, calls: int) -> Judgement:
    """Whether the first target was asked more often than the calls and the retry budget allow."""
    asked = stage.upstreams.at(0)
    seconds = asked[-1].at - asked[0].at if asked else 0.0
    most = calls + max(stage.terms.policies.retry.budget * calls, 3 * math.ceil((seconds + 0.001) / 10))
    if len(asked) > most:
        return Judgement(
            "fail", f"too many requests: {calls} calls, but the faulty target was asked {len(asked)} times"
        )
    return Judgement("pass")


async def slow_reader(stage: Stage, expects: Expectation) -> Outcome:
    """A caller that reads nothing for a second: the upstream must be slowed down, and nothing be lost."""
    caller = stage.caller(slow=True)
    await caller.ask(stage.port)
    await _until(lambda: bool(stage.upstreams.asked), 2.0)
    await asyncio.sleep(1.0)
    sent = sum(asked.sent for asked in stage.upstreams.asked)
    caller.read()
    received = await caller.answer(time_limit(expects, stage.terms) + 5)
    found = judge(expects, "".join(tokens_for(caller.question)), received, stage.seen(), stage.terms)
    if sent > _HELD + kernel_buffers() and stage.terms.policies.stream_safety != "whole":
        found = Judgement("fail", f"the upstream could send {sent >> 20} MB while the client read nothing")
    return Outcome(found, received, f"{sent / 2**20:.1f} MB sent while the client read nothing")


def kernel_buffers() -> int:
    """Bytes that kernel buffers may hold between an upstream, Sluice and a reader."""
    try:
        return sum(int(path.read_text().split()[2]) for path in _KERNEL)
    except (OSError, IndexError, ValueError):
        return 8 * 2**20


def leaving(streamed: bool, after: Callable[[Sequence[Asked], bytes], bool]) -> Episode:
    """A caller that leaves once `after` (requests, bytes received) is true: upstreams must see it at once."""

    async def episode(stage: Stage, expects: Expectation) -> Outcome:
        caller = stage.caller(streamed=streamed)
        await caller.ask(stage.port)
        asked = stage.upstreams.asked
        if not await _until(lambda: after(asked, bytes(caller.raw)), 3.0):
            return Outcome(Judgement("fail", "the call did not get to the point where the client leaves"))
        left = caller.leave()
        open_ones = [each for each in asked if each.answered_at is None]
        starved = await _starved_until(lambda: all(each.gone_at is not None for each in open_ones))
        await asyncio.sleep(2 * CANCEL_WITHIN)
        return Outcome(cancelled_in_time(asked, open_ones, left + starved), None, _when(open_ones, left))

    return episode


def cancelled_in_time(asked: Sequence[Asked], open_ones: Sequence[Asked], left: float) -> Judgement:
    """Whether upstreams saw at once that the caller left at `left`. `open_ones`: requests unanswered by then."""
    if any(each.gone_at is None for each in open_ones):
        return Judgement("fail", "the upstream was still working 2 s after the client left")
    late = max((each.gone_at - left for each in open_ones if each.gone_at is not None), default=0.0)
    if late > CANCEL_WITHIN:
        return Judgement("fail", f"the request was cancelled only {late * 1e3:.0f} ms after the client left")
    if any(each.at > left + CANCEL_WITHIN for each in asked):
        return Judgement("fail", "an upstream was asked after the client left")
    return Judgement("pass")


def _when(open_ones: Sequence[Asked], left: float) -> str:
    seen = [each.gone_at - left for each in open_ones if each.gone_at is not None]
    return f"left; its request was cancelled after {max(seen) * 1e3:.0f} ms" if seen else "left; no request followed"


async def backing_off(stage: Stage, expects: Expectation) -> Outcome:
    """A caller that leaves while Sluice waits before a retry."""
    retry = stage.terms.policies.retry
    if retry.attempts < 2 or retry.max_backoff < PAUSE:
        return Outcome(None, None, "this route does not retry, or waits too little between attempts")
    return await leaving(True, lambda asked, raw: bool(asked) and asked[-1].answered_at is not None)(stage, expects)


async def _starved_until(condition: Callable[[], bool]) -> float:
    """Waits for a condition for up to 2 s. Returns the seconds for which the machine paused this process."""
    loop, starved = asyncio.get_running_loop(), 0.0
    ends = loop.time() + 2.0
    while not condition() and loop.time() < ends:
        before = loop.time()
        await asyncio.sleep(0.002)
        starved += max(0.0, loop.time() - before - 0.01)
    return starved


async def _until(condition: Callable[[], bool], seconds: float) -> bool:
    """Waits for a condition; returns whether it came true in time."""
    ends = asyncio.get_running_loop().time() + seconds
    while not condition():
        if asyncio.get_running_loop().time() > ends:
            return False
        await asyncio.sleep(0.002)
    return True
