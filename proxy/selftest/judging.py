"""Judges whether what the caller got, and what the upstreams saw, is acceptable."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from proxy.errors import STATUS
from proxy.policies.routes import Policies
from proxy.selftest.receiving import Received

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
    invalid_events: bool = False  # an event that is not JSON may be passed on
    midway: bool = False  # occurs after content has been sent
    answered_by: int | None = None  # place of the target whose model name and usage the answer must show


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


def judge(expects: Expectation, full_text: str, received: Received, seen: Sequence[Seen], terms: Terms) -> Judgement:
    """`full_text`: the complete answer."""
    for fault in (*violations(expects, full_text, received, terms), *excess_requests(expects, seen, terms)):
        return Judgement("fail", fault)
    if received.code is None:
        if expects.wants == "error":
            return Judgement("fail", "an answer, although the error belongs to the client: another target was asked")
        if wrong := _misattributed(expects, received, seen, terms.model):
            return Judgement("fail", wrong)
        if received.invalid_events:
            return Judgement("safe", "the complete answer, but an event that is not JSON was passed on")
        return Judgement("pass")
    if expects.wants == "error":
        return Judgement("pass")
    if received.text:
        return Judgement("partial", f"{len(received.text)} of {len(full_text)} characters, then {received.code}")
    return Judgement("safe", f"no answer, but the right error: {received.code}")


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


def time_limit(expects: Expectation, terms: Terms) -> float:
    """Seconds within which the caller must have an answer or an error."""
    clocks, retry = terms.policies.timeouts, terms.policies.retry
    held = expects.lasts * terms.scale
    if expects.clock:
        held = min(held, clocks.first_token if expects.clock == "first_token" else clocks.idle)
    waits = sum(min(retry.max_backoff, retry.backoff * 2**tries) for tries in range(retry.attempts - 1))
    if expects.gap:
        waits = max(waits, (retry.attempts - 1) * min(retry.max_backoff, expects.gap * terms.scale))
    return float(min(clocks.total, held + terms.targets * waits) + SLACK)


def violations(expects: Expectation, full_text: str, received: Received, terms: Terms) -> Iterator[str]:
    """What no caller may ever get."""
    if received.hung:
        yield f"the answer had not ended after {time_limit(expects, terms):.1f} s"
    elif not received.status:
        yield "the connection ended without an answer"
    elif not received.whole:
        yield "the connection broke in the middle of the body"
    yield from received.oddities
    if received.invalid_events and not expects.invalid_events:
        yield f"{received.invalid_events} events that are not JSON"
    if not full_text.startswith(received.text):
        yield "text that no upstream sent"
    if max(received.roles, received.ids, len(received.finishes)) > 1:
        yield f"not one stream: {received.roles} roles, {received.ids} ids, {len(received.finishes)} finish reasons"
    yield from _wrong_error(expects, received) if received.code is not None else _wrong_answer(full_text, received)


def _wrong_answer(full_text: str, received: Received) -> Iterator[str]:
    if received.text != full_text:
        ended = "as a success" if received.done or received.finishes else "without any error"
        yield f"a truncated answer ({len(received.text)} of {len(full_text)} characters) ended {ended}"
    elif received.status != 200:
        yield f"an answer with status {received.status}"
    elif received.finishes != ("stop",) or not received.done:
        yield "the complete text, but " + (
            "no [DONE]" if received.finishes == ("stop",) else "a wrong or no finish reason"
        )


def _wrong_error(expects: Expectation, received: Received) -> Iterator[str]:
    if received.done or received.finishes:
        yield "an error together with " + ("[DONE]" if received.done else "a finish reason")
    if received.code not in expects.codes:
        yield f"the wrong error: {received.code} instead of {' or '.join(sorted(expects.codes))}"
    elif received.status != 200 and received.status != (expects.status or STATUS.get(str(received.code), 400)):
        yield f"{received.code} with status {received.status}"


def excess_requests(expects: Expectation, seen: Sequence[Seen], terms: Terms) -> Iterator[str]:
    """Requests beyond what the upstreams should have to take."""
    tries = terms.policies.retry.attempts if expects.again else 1
    resumes = terms.policies.stream_safety == "resume" and (expects.midway or terms.targets == 1)
    rounds = 2 if resumes else 1  # one to begin, one to resume
    asked = _times(seen, 0)
    races = any(each.reused and not each.status for each in seen)  # a broken keep-alive connection is retried once
    if len(asked) > tries * (rounds if expects.again else 1) + races:
        why = "" if expects.again else ", although asking it again cannot help"
        yield f"too many requests: the faulty target was asked {len(asked)} times{why}"
    for place in {each.place for each in seen} - {0}:
        most = terms.policies.retry.attempts * rounds
        if (count := len(_times(seen, place))) > most:
            yield f"too many requests: target {letter(place)} was asked {count} times"
    least = expects.gap * terms.scale * 0.95
    for before, after in zip(asked, asked[1:], strict=False):
        if after - before < least:
            wanted = expects.gap * terms.scale
            yield f"asked again after {after - before:.2f} s, although Retry-After said {wanted:.2f} s"


def _times(seen: Iterable[Seen], place: int) -> list[float]:
    return [each.at for each in seen if each.place == place]


def _misattributed(expects: Expectation, received: Received, seen: Sequence[Seen], model: str) -> str:
    """What is wrong with the model name and usage of an answer that must come from a certain target."""
    if expects.answered_by is None or not seen:
        return ""
    last = seen[-1]
    if last.place != expects.answered_by and any(each.place == expects.answered_by for each in seen):
        return f"answered by target {letter(last.place)} instead of {letter(expects.answered_by)}"
    if received.model != (model or last.model):
        return f'the answer names the model "{received.model}" instead of "{model or last.model}"'
    if received.counted != last.counted:
        return f"usage says {received.counted} input tokens, but the target that answered reported {last.counted}"
    return ""


def letter(place: int) -> str:
    """The name of a target on the card: A was asked first."""
    return chr(ord("A") + place) if place < 26 else str(place)


def worst(judgements: Iterable[Judgement]) -> Judgement:
    """The worst of several."""
    return max(judgements, key=lambda each: RANK[each.verdict], default=Judgement("fail", "no call was made"))
