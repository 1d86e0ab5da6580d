"""The judge's table: what is a pass, what is only safe, and what no caller may ever get."""

from dataclasses import replace

import pytest

from proxy.policies.routes import Policies, Retry, Timeouts
from proxy.selftest.judging import (
    SLACK,
    Expectation,
    Judgement,
    Seen,
    Terms,
    best,
    excess_requests,
    judge,
    time_limit,
    worst,
)
from proxy.selftest.receiving import Received

FULL_TEXT = "one two three"
POLICIES = Policies(Timeouts(5.0, 60.0, 60.0, 600.0, 3600.0), Retry(2, 0.25, 8.0, 0.2))
TERMS = Terms(POLICIES, 2, 1.0)
RESUME = replace(TERMS, policies=replace(POLICIES, stream_safety="resume"))
ALONE = replace(TERMS, targets=1)
FAULT = Expectation(frozenset({"upstream_error"}))
MIDWAY = replace(FAULT, midway=True)
REFUSAL = Expectation(frozenset({"content_filter"}), "error", 400, again=False)
ANSWER = Received(0.1, status=200, whole=True, text=FULL_TEXT, finishes=("stop",), done=True, model="m", ids=1, roles=1)
FAILURE = Received(0.1, status=502, whole=True, code="upstream_error")
BROKEN = replace(ANSWER, text="one", finishes=(), done=False, code="upstream_error")


@pytest.mark.parametrize(
    ("expects", "received", "verdict"),
    [
        (FAULT, ANSWER, "pass"),
        (FAULT, FAILURE, "safe"),
        (FAULT, replace(FAILURE, status=200), "safe"),  # an error event: the head had left
        (MIDWAY, BROKEN, "partial"),
        (REFUSAL, replace(FAILURE, status=400, code="content_filter"), "pass"),
        (replace(FAULT, invalid_events=True), replace(ANSWER, invalid_events=1), "safe"),
    ],
)
def test_acceptable_outcomes(expects: Expectation, received: Received, verdict: str) -> None:
    assert judge(expects, FULL_TEXT, received, [Seen(0, 0.0)], TERMS).verdict == verdict


@pytest.mark.parametrize(
    ("expects", "received", "reason"),
    [
        (FAULT, replace(ANSWER, hung=True), "not ended after"),
        (FAULT, Received(0.1), "ended without an answer"),
        (FAULT, replace(ANSWER, whole=False), "broke in the middle of the body"),
        (MIDWAY, replace(ANSWER, text="one"), "truncated answer (3 of 13 characters) ended as a success"),
        (MIDWAY, replace(ANSWER, text="one", finishes=(), done=False), "ended without any error"),
        (MIDWAY, replace(BROKEN, done=True), "an error together with [DONE]"),
        (MIDWAY, replace(BROKEN, finishes=("stop",)), "an error together with a finish reason"),
        (MIDWAY, replace(ANSWER, text="one two two three"), "text that no upstream sent"),
        (MIDWAY, replace(ANSWER, ids=2), "not one stream"),
        (MIDWAY, replace(ANSWER, roles=2), "not one stream"),
        (MIDWAY, replace(ANSWER, finishes=("stop", "stop")), "not one stream"),
        (FAULT, replace(ANSWER, done=False), "no [DONE]"),
        (FAULT, replace(ANSWER, finishes=("length",)), "finish reason"),
        (FAULT, replace(ANSWER, status=500), "an answer with status 500"),
        (FAULT, replace(ANSWER, oddities=("an event after the end",)), "an event after the end"),
        (FAULT, replace(ANSWER, invalid_events=1), "1 events that are not JSON"),
        (FAULT, replace(FAILURE, code="proxy_internal", status=500), "the wrong error: proxy_internal"),
        (FAULT, replace(FAILURE, status=500), "upstream_error with status 500"),
        (REFUSAL, ANSWER, "another target was asked"),
        (REFUSAL, replace(FAILURE, code="content_filter"), "content_filter with status 502"),
    ],
)
def test_unacceptable_outcomes(expects: Expectation, received: Received, reason: str) -> None:
    judgement = judge(expects, FULL_TEXT, received, [Seen(0, 0.0)], TERMS)
    assert judgement.verdict == "fail" and reason in judgement.reason


def test_a_fallback_reports_its_own_name_and_usage() -> None:
    expects = replace(FAULT, answered_by=1)
    seen = [Seen(0, 0.0, 503, "a", 11), Seen(1, 0.1, 200, "b", 21)]
    right = replace(ANSWER, model="b", counted=21)
    assert judge(expects, FULL_TEXT, right, seen, TERMS).verdict == "pass"
    assert "names the model" in judge(expects, FULL_TEXT, replace(right, model="a"), seen, TERMS).reason
    assert "usage says 11" in judge(expects, FULL_TEXT, replace(right, counted=11), seen, TERMS).reason
    asked = replace(TERMS, model="house")
    assert judge(expects, FULL_TEXT, replace(right, model="house"), seen, asked).verdict == "pass"
    assert judge(expects, FULL_TEXT, right, seen, asked).verdict == "fail"


def at(*times: float, place: int = 0, reused: bool = False) -> list[Seen]:
    return [Seen(place, time, reused=reused) for time in times]


@pytest.mark.parametrize(
    ("expects", "seen", "terms", "fails"),
    [
        (FAULT, at(0, 1), TERMS, False),
        (FAULT, at(0, 1, 2), TERMS, True),
        (FAULT, at(0, 1, 2, reused=True), TERMS, False),  # a kept connection that broke on reuse
        (replace(FAULT, again=False), at(0), TERMS, False),
        (replace(FAULT, again=False), at(0, 1), TERMS, True),
        (MIDWAY, at(0, 1, 2, 3), RESUME, False),
        (MIDWAY, at(0, 1, 2, 3, 4), RESUME, True),
        (replace(FAULT, gap=2.0), at(0, 2.0), TERMS, False),
        (replace(FAULT, gap=2.0), at(0, 1.0), TERMS, True),
        (replace(FAULT, gap=2.0), at(0, 0.1), replace(TERMS, scale=0.05), False),
        (FAULT, [*at(0), *at(1, 2, place=1)], TERMS, False),
        (FAULT, [*at(0), *at(1, 2, 3, place=1)], TERMS, True),
    ],
)
def test_too_many_requests_to_upstreams_fail(expects: Expectation, seen: list[Seen], terms: Terms, fails: bool) -> None:
    assert bool(list(excess_requests(expects, seen, terms))) is fails


@pytest.mark.parametrize(
    ("expects", "terms", "verdict"),
    [
        (FAULT, TERMS, "pass"),
        (FAULT, ALONE, "safe"),
        (replace(FAULT, heals=True), ALONE, "pass"),
        (MIDWAY, TERMS, "partial"),
        (MIDWAY, RESUME, "pass"),
        (MIDWAY, replace(RESUME, targets=1), "partial"),
        (REFUSAL, ALONE, "pass"),
    ],
)
def test_the_best_possible_verdict(expects: Expectation, terms: Terms, verdict: str) -> None:
    assert best(expects, terms) == verdict


def test_the_time_limit_is_what_the_configured_timeouts_allow() -> None:
    silence = replace(FAULT, lasts=3600.0, clock="first_token")
    assert time_limit(silence, TERMS) == pytest.approx(60 + 2 * 0.25 + SLACK)
    assert time_limit(replace(silence, lasts=20.0), TERMS) == pytest.approx(20 + 2 * 0.25 + SLACK)
    assert time_limit(replace(FAULT, gap=2.0), TERMS) == pytest.approx(2 * 2.0 + SLACK)
    hurried = replace(TERMS, policies=replace(POLICIES, timeouts=replace(POLICIES.timeouts, total=1.0)))
    assert time_limit(silence, hurried) == pytest.approx(1.0 + SLACK)


def test_the_worst_judgement_of_several_counts() -> None:
    assert worst([Judgement("pass"), Judgement("partial", "x"), Judgement("safe")]) == Judgement("partial", "x")
    assert worst([]).verdict == "fail"
