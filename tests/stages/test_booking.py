"""Every call is booked once, under its day; what is unknown is no zero."""

from datetime import UTC, datetime
from typing import Any

import pytest

from proxy.call import Call
from proxy.errors import SluiceError
from proxy.policies.allowances import Allowance, Limits
from proxy.stages.booking import Books
from proxy.store.contract import Counts
from proxy.usage import Usage


def call(tenant: str | None = "key-0", upstream: str = "east", usage: Usage | None = None, **trace: Any) -> Call:
    made = Call("1", "openai", "chat/completions", "m", b"", {}, tenant=tenant)
    made.trace.upstream = upstream
    made.trace.attempts = (f"{upstream}:200",) if upstream else ()
    if usage is not None:
        made.trace.usage = usage
    for name, value in trace.items():
        setattr(made.trace, name, value)
    return made


def booked(*calls: Call) -> dict[tuple[str, str, str], Counts]:
    books = Books()
    for each in calls:
        books.note(each, "gpt-4o")
    return {(key, upstream, model): counts for (key, _, upstream, model), counts in books.take()[0].items()}


def failure(code: str = "upstream_error") -> SluiceError:
    return SluiceError(code, "x")


def test_what_calls_take_is_added_up() -> None:
    counts = booked(call(usage=Usage(10, 5, 4, 2, 0.25)), call(usage=Usage(1, None, None, None, 0.5)), call("open"))
    assert counts == {
        ("key-0", "east", "gpt-4o"): Counts(2, 0, 11, 5, 4, 2, 0.75, 0),
        ("open", "east", "gpt-4o"): Counts(1, unpriced=1),
    }


def test_a_made_key_is_booked_by_its_name() -> None:
    made = call("key-0")
    made.allowance = Allowance("team", "key-0", Limits(), None, lambda name: 0.0)
    assert list(booked(made)) == [("team", "east", "gpt-4o")]


def test_who_was_refused_at_the_door_is_nobody() -> None:
    assert booked(call(None, "", failure=failure("invalid_api_key"))) == {}


def test_a_call_that_nobody_was_asked_for_has_no_model() -> None:
    assert booked(call(upstream="", failure=failure("policy_rate_limited"))) == {("key-0", "", ""): Counts(1, 1)}


@pytest.mark.parametrize(
    ("made", "unpriced"),
    [
        (call(usage=Usage(10, 5, cost=0.0)), 0),
        (call(usage=Usage(10, 5)), 1),
        (call(), 1),  # speech, say
        (call(cache="miss"), 1),
        (call(cache="hit"), 0),
        (call(cache="shared"), 0),
        (call(cache="similar;score=0.97"), 0),
        (call(failure=failure()), 0),
        (call(failure=failure("client_cancelled"), content_at=1.0), 1),
    ],
)
def test_what_is_not_known_to_cost_nothing_is_unpriced(made: Call, unpriced: int) -> None:
    (counts,) = booked(made).values()
    assert (counts.calls, counts.unpriced) == (1, unpriced)


def test_days_are_apart_and_a_month_s_costs_end_with_it() -> None:
    books = Books()
    last, first = (datetime(2026, month, day, 23, 59, 59, tzinfo=UTC).timestamp() for month, day in ((11, 30), (12, 1)))
    for now in (last - 86400, last, first):
        books.turn(now)
        books.day_ends = float("inf")
        books.note(call(usage=Usage(1, 1, cost=0.5)), "gpt-4o")
        costs = dict(books.costs)
    assert costs == {"key-0": 0.5}
    lines, taken = books.take()
    assert [line[1] for line in lines] == ["2026-11-29", "2026-11-30", "2026-12-01"] and taken == costs
    assert books.take() == ({}, {}) and books.costs == {}


def test_a_day_ends_at_midnight_utc() -> None:
    books = Books()
    books.turn(datetime(2026, 11, 30, 12, tzinfo=UTC).timestamp())
    assert (books.day, books.day_ends) == ("2026-11-30", datetime(2026, 12, 1, tzinfo=UTC).timestamp())


@pytest.mark.usefixtures("one_day")
def test_what_cannot_be_written_for_long_stays_bounded_and_loses_no_call() -> None:
    books = Books()
    for at in range(20_000):
        books.note(call(usage=Usage(1, 1, cost=1.0)), f"model-{at}")
    lines, costs = books.take()
    assert len(lines) == 5_001 and sum(counts.calls for counts in lines.values()) == 20_000
    assert costs == {"key-0": 20_000.0}
