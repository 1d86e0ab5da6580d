"""Retries are a share of calls over ten seconds, and waits double within their bounds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.policies.retries import ALWAYS, WINDOW, Backoff, Budget


@given(
    st.floats(0, 1),
    st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.0, 0.1, 0.4, 1.0, 3.0, 11.0, 500.0])), max_size=60),
)
def test_a_budget_is_what_counting_every_call_would_say(share: float, steps: list[tuple[bool, float]]) -> None:
    budget, now = Budget(share), 1000.0
    calls: list[int] = []
    spent: list[int] = []
    for is_call, later in steps:
        now += later
        if is_call:
            budget.call(now)
            calls.append(int(now))
            continue
        recent = [sum(1 for second in seen if second > int(now) - WINDOW) for seen in (calls, spent)]
        allowed = recent[1] < max(ALWAYS, share * recent[0])
        assert budget.spend(now) is allowed
        if allowed:
            spent.append(int(now))


def test_a_dead_upstream_is_not_stampeded() -> None:
    budget, sent = Budget(0.2), 0
    for at in range(1000):
        budget.call(at / 100)
        sent += 1 + budget.spend(at / 100)
    assert 1190 <= sent <= 1210


def test_hedges_have_a_share_of_their_own_from_the_same_purse() -> None:
    budget = Budget(0.5)
    for _ in range(100):
        budget.call(1.0)
    assert sum(budget.spend(1.0, 0.05) for _ in range(50)) == 5
    assert sum(budget.spend(1.0) for _ in range(100)) == 45


def test_a_few_are_always_allowed_and_again_after_the_window() -> None:
    budget = Budget(0.0)
    assert [budget.spend(5.0) for _ in range(4)] == [True, True, True, False]
    assert not budget.spend(14.9)
    assert budget.spend(15.0)


@pytest.mark.parametrize(("tries", "most"), [(1, 0.25), (2, 0.5), (3, 1.0), (6, 8.0), (7, 8.0), (500, 8.0)])
def test_waits_double_up_to_the_most_and_are_spread(tries: int, most: float) -> None:
    waits = [Backoff(0.25, 8.0).wait(tries, None) for _ in range(200)]
    found = [wait for wait in waits if wait is not None]
    assert len(found) == 200
    assert most / 2 <= min(found) < max(found) <= most
    assert max(found) - min(found) > most / 4


def test_what_the_upstream_asks_for_is_kept_to_or_too_long() -> None:
    assert Backoff(0.25, 8.0).wait(3, 2.0) == 2.0
    assert Backoff(0.25, 8.0).wait(1, 0.0) == 0.0
    assert Backoff(0.25, 8.0).wait(1, 8.0) == 8.0
    assert Backoff(0.25, 8.0).wait(1, 8.1) is None
