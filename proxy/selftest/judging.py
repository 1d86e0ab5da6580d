"""Judges whether what the caller got, and what the upstreams saw, is acceptable."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from proxy.errors import STATUS
from proxy.policies.routes import Policies
from proxy.selftest.hearing import Heard

Verdict = Literal["pass", "partial", "safe", "fail"]
RANK: Final[dict[str, int]] = {"pass": 0, "safe": 1, "partial": 2, "fail": 3}
SLACK: Final = 2.5  # unscaled seconds of tolerance for this machine


@dataclass(frozen=True, slots=True)
class Terms:
    """The conditions of a test: the route's policies, timeouts scaled already."""

    policies: Policies
    targets: int
    scale: float
    model: str = ""  # the name that answers must show by the route's rules; "": the upstream's own


@dataclass(frozen=True, slots=True)
class Expectation:
    """What is acceptable when a fault hits the first target. Seconds are unscaled."""

    codes: frozenset[str]  # acceptable error codes
    wants: Literal["answer", "error"] = "answer"
    status: int = 0  # of the error; 0: its code's own
    lasts: float = 0.0  # how long the fault delays an answer
    clock: Literal["", "first_token", "idle"] = ""  # the timeout that may end it sooner
    again: bool = True  # whether the first target may be tried again
    gap: float = 0.0  # minimum time between its attempts
    heals: bool = False  # a second try at the same target would be answered
    unreadable: bool = False  # an event that is not JSON may be passed on
    midway: bool = False  # occurs after content has been sent
    whose: int | None = None  # place of the target whose model name and usage must be told


@dataclass(frozen=True, slots=True)
class Seen:
    """One request at an upstream: the place of its target, and its time in seconds."""

    place: int
    at: float
    status: int = 0
    model: str = ""
    counted: int = 0  # input tokens that this target reports
    reused: bool = False  # came on a connection that had been used before


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict with its reason."""

    verdict: Verdict
    reason: str = ""


def judge(expects: Expectation, truth: str, heard: Heard, seen: Sequence[Seen], terms: Terms) -> Judgement:
    """`truth`: the complete answer."""
    for fault in (*lies(expects, truth, heard, terms), *hammering(expects, seen, terms)):
        return Judgement("fail", fault)
    if heard.code is None:
        if expects.wants == "error":
            return Judgement("fail", "an answer, where only the error would be true: it was routed round")
        if wrong := _misattributed(expects, heard, seen, terms.model):
            return Judgement("fail", wrong)
        if heard.unreadable:
            return Judgement("safe", "the whole answer, with the event that is no JSON passed on as it came")
        return Judgement("pass")
    if expects.wants == "error":
        return Judgement("pass")
    if heard.text:
        return Judgement("partial", f"{len(heard.text)} of {len(truth)} characters, then {heard.code}")
    return Judgement("safe", f"a clean {heard.code}")


def best(expects: Expectation, terms: Terms) -> Verdict:
    """The best result possible under these conditions."""
    safety = terms.policies.stream_safety
    if expects.wants == "error":
        return "pass"
    if expects.midway and safety == "live":
        return "partial"
    if terms.targets > 1 or (expects.heals and terms.policies.retry.attempts > 1):
        return "pass"
    return "partial" if expects.midway and safety == "resume" else "safe"


def patience(expects: Expectation, terms: Terms) -> float:
    """Seconds within which the caller must have an answer or an error."""
    clocks, retry = terms.policies.timeouts, terms.policies.retry
    held = expects.lasts * terms.scale
    if expects.clock:
        held = min(held, clocks.first_token if expects.clock == "first_token" else clocks.idle)
    waits = sum(min(retry.max_backoff, retry.backoff * 2**tries) for tries in range(retry.attempts - 1))
    if expects.gap:
        waits = max(waits, (retry.attempts - 1) * min(retry.max_backoff, expects.gap * terms.scale))
    return float(min(clocks.total, held + terms.targets * waits) + SLACK)


def lies(expects: Expectation, truth: str, heard: Heard, terms: Terms) -> Iterator[str]:
    """What no caller may ever get."""
    if heard.hung:
        yield f"not ended after {patience(expects, terms):.1f} s"
    elif not heard.status:
        yield "the connection ended without an answer"
    elif not heard.whole:
        yield "the connection broke off within the body"
    yield from heard.oddities
    if heard.unreadable and not expects.unreadable:
        yield f"{heard.unreadable} events that are no JSON"
    if not truth.startswith(heard.text):
        yield "text that no upstream said"
    if max(heard.roles, heard.ids, len(heard.finishes)) > 1:
        yield f"not one stream: {heard.roles} roles, {heard.ids} ids, {len(heard.finishes)} finish reasons"
    yield from _untrue_error(expects, heard) if heard.code is not None else _untrue_answer(truth, heard)


def _untrue_answer(truth: str, heard: Heard) -> Iterator[str]:
    if heard.text != truth:
        ended = "as a success" if heard.done or heard.finishes else "without any error"
        yield f"a truncated answer ({len(heard.text)} of {len(truth)} characters) ended {ended}"
    elif heard.status != 200:
        yield f"an answer with status {heard.status}"
    elif heard.finishes != ("stop",) or not heard.done:
        yield "the whole text, but " + ("no [DONE]" if heard.finishes == ("stop",) else "a wrong or no finish reason")


def _untrue_error(expects: Expectation, heard: Heard) -> Iterator[str]:
    if heard.done or heard.finishes:
        yield "an error, and " + ("[DONE]" if heard.done else "a finish reason")
    if heard.code not in expects.codes:
        yield f"the wrong error: {heard.code}, where {' or '.join(sorted(expects.codes))} would be true"
    elif heard.status != 200 and heard.status != (expects.status or STATUS.get(str(heard.code), 400)):
        yield f"{heard.code} with status {heard.status}"


def hammering(expects: Expectation, seen: Sequence[Seen], terms: Terms) -> Iterator[str]:
    """Requests beyond what the upstreams should have to take."""
    tries = terms.policies.retry.attempts if expects.again else 1
    resumes = terms.policies.stream_safety == "resume" and (expects.midway or terms.targets == 1)
    rounds = 2 if resumes else 1  # one to begin, one to resume
    asked = _times(seen, 0)
    races = any(each.reused and not each.status for each in seen)  # a broken keep-alive connection is retried once
    if len(asked) > tries * (rounds if expects.again else 1) + races:
        why = "" if expects.again else ", and more than once does not help"
        yield f"hammered: the faulty target was asked {len(asked)} times{why}"
    for place in {each.place for each in seen} - {0}:
        most = terms.policies.retry.attempts * rounds
        if (count := len(_times(seen, place))) > most:
            yield f"hammered: target {letter(place)} was asked {count} times"
    least = expects.gap * terms.scale * 0.95
    for before, after in zip(asked, asked[1:], strict=False):
        if after - before < least:
            yield f"asked again after {after - before:.2f} s, where Retry-After said {expects.gap * terms.scale:.2f} s"


def _times(seen: Iterable[Seen], place: int) -> list[float]:
    return [each.at for each in seen if each.place == place]


def _misattributed(expects: Expectation, heard: Heard, seen: Sequence[Seen], model: str) -> str:
    """What is wrong with the model name and usage of an answer that must come from a certain target."""
    if expects.whose is None or not seen:
        return ""
    last = seen[-1]
    if last.place != expects.whose and any(each.place == expects.whose for each in seen):
        return f"answered by target {letter(last.place)}"
    if heard.model != (model or last.model):
        return f'the answer names the model "{heard.model}", where "{model or last.model}" is right'
    if heard.counted != last.counted:
        return f"usage tells {heard.counted} input tokens, and the target that answered said {last.counted}"
    return ""


def letter(place: int) -> str:
    """The name of a target on the card: A was asked first."""
    return chr(ord("A") + place) if place < 26 else str(place)


def worst(judgements: Iterable[Judgement]) -> Judgement:
    """The worst of several."""
    return max(judgements, key=lambda each: RANK[each.verdict], default=Judgement("fail", "nothing was asked"))
