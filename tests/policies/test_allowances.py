"""Clients are informed of the limits of their key, and when a refused call may be repeated."""

from datetime import UTC, datetime, timedelta

import pytest

from proxy.call import Call
from proxy.errors import SluiceError
from proxy.policies.allowances import Allowance, Limits, month_after
from proxy.policies.windows import local_window

SECOND = 10**9


class Clock:
    """A clock that stands still."""

    def __init__(self) -> None:
        self.now = 1_000_000 * SECOND

    def __call__(self) -> int:
        return self.now


def call() -> Call:
    return Call("1", "openai", "chat/completions", "m", b"", {})


def allowance(limits: Limits, clock: Clock | None = None, spent: float = 0.0) -> Allowance:
    return Allowance("team", "key-0", limits, None, lambda name: spent, local_window(b""), clock or Clock())


def quota(made: Call) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in made.trace.quota}


def refusal(made: Call, of: Allowance) -> SluiceError:
    with pytest.raises(SluiceError) as raised:
        of.enter(made)
    assert (raised.value.code, raised.value.status) == ("policy_rate_limited", 429)
    return raised.value


def test_without_limits_there_are_no_rate_limit_headers() -> None:
    made, free = call(), allowance(Limits())
    for _ in range(1000):
        free.enter(made)
    assert not made.trace.quota


def test_requests_per_minute_are_limited_and_shown() -> None:
    clock = Clock()
    team = allowance(Limits(requests_per_minute=2), clock)
    first, second, third = call(), call(), call()
    team.enter(first)
    assert quota(first) == {
        "x-ratelimit-limit-requests": "2",
        "x-ratelimit-remaining-requests": "1",
        "x-ratelimit-reset-requests": "1m0s",
    }
    clock.now += int(7.84 * SECOND)
    team.enter(second)
    clock.now += SECOND
    failure = refusal(third, team)
    assert failure.headers() == [(b"retry-after", b"52")]
    assert "team" in failure.message and "2 requests per minute (requests_per_minute)" in failure.message
    assert quota(third) == quota(second) | {"x-ratelimit-reset-requests": "59s"}


def test_tokens_per_minute_are_limited_and_shown() -> None:
    clock = Clock()
    team = allowance(Limits(tokens_per_minute=100), clock)
    made = call()
    team.enter(made)
    assert quota(made) == {
        "x-ratelimit-limit-tokens": "100",
        "x-ratelimit-remaining-tokens": "100",
        "x-ratelimit-reset-tokens": "0s",
    }
    team.used(130)
    clock.now += SECOND // 2
    failure = refusal(made, team)
    assert "100 tokens per minute (tokens_per_minute)" in failure.message
    assert quota(made) == {
        "x-ratelimit-limit-tokens": "100",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "59.5s",
    }


@pytest.mark.usefixtures("one_day")
def test_the_monthly_budget_refuses_until_the_next_month() -> None:
    limits = Limits(monthly_budget=2.5)
    allowance(limits, spent=2.4999).enter(call())
    failure = refusal(call(), allowance(limits, spent=2.5))
    headers = dict(failure.headers())
    left = month_after(datetime.now(UTC)) - datetime.now(UTC)
    assert 0 <= int(headers[b"retry-after"]) - left.total_seconds() <= 5
    assert headers[b"x-should-retry"] == b"false"
    assert "budget of 2.5 USD (monthly_budget)" in failure.message


@pytest.mark.parametrize("month", range(1, 13))
def test_a_month_is_a_calendar_month(month: int) -> None:
    first = datetime(2028, month, 1, tzinfo=UTC)
    after = month_after(first)
    assert (after.day, after.hour) == (1, 0) and (after - timedelta(seconds=1)).month == month
    assert month_after(after - timedelta(seconds=1)) == after
