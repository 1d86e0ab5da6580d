"""A breaker opens on failures in a row that are the upstream's, lets single probes through, and never sticks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import STATUS, SluiceError
from proxy.policies.breakers import Breaker, Breakers, Pass, Tripping, is_upstream_fault

BROKEN = SluiceError("upstream_error", "broken")
MISTAKE = SluiceError("client_invalid_request", "yours")
TRIPPING = Tripping(failures=3, open_for=10.0)


def opened(now: float = 0.0) -> Breaker:
    breaker = Breaker(TRIPPING)
    for _ in range(3):
        assert breaker.admits(now) == "call"
        breaker.noted(BROKEN, now)
    return breaker


def test_it_opens_at_the_failure_that_is_one_too_many() -> None:
    breaker = Breaker(TRIPPING)
    for _ in range(2):
        breaker.noted(BROKEN, 0.0)
    assert breaker.admits(0.0) == "call"
    breaker.noted(BROKEN, 0.0)
    assert breaker.admits(9.99) == "no"


def test_only_failures_in_a_row_count() -> None:
    breaker = Breaker(TRIPPING)
    for failure in (BROKEN, BROKEN, None, BROKEN, BROKEN, MISTAKE, None, BROKEN, BROKEN):
        breaker.noted(failure, 0.0)
    assert breaker.admits(0.0) == "call"


@pytest.mark.parametrize("code", STATUS)
def test_only_the_upstreams_own_failures_count(code: str) -> None:
    not_its = ("upstream_rate_limited", "upstream_not_configured", "upstream_timeout_total")
    assert is_upstream_fault(SluiceError(code, "x")) is (code.startswith("upstream_") and code not in not_its)


def test_one_probe_at_a_time_when_the_time_is_over() -> None:
    breaker = opened()
    assert [breaker.admits(10.0) for _ in range(5)] == ["probe", "no", "no", "no", "no"]
    breaker.noted(BROKEN, 11.0, "probe")
    assert breaker.admits(20.9) == "no"  # open for as long again
    assert [breaker.admits(21.0) for _ in range(2)] == ["probe", "no"]
    breaker.noted(None, 22.0, "probe")
    assert {breaker.admits(22.0) for _ in range(5)} == {"call"}
    breaker.noted(BROKEN, 22.0)
    assert breaker.admits(22.0) == "call"  # and it counts from nothing again


@pytest.mark.parametrize("then", [None, BROKEN])
def test_a_probe_that_is_being_answered_keeps_nobody_away_and_one_failure_opens_it_again(
    then: SluiceError | None,
) -> None:
    told: list[bool] = []
    breakers = Breakers({"east": TRIPPING}, lambda upstream, model, is_open: told.append(is_open))
    at = "east", "m"
    for _ in range(3):
        breakers.noted(at, BROKEN, 0.0, "call")
    assert breakers.of(*at).admits(10.0) == "probe"
    assert breakers.answers(at)
    assert [breakers.of(*at).admits(10.0) for _ in range(3)] == ["call"] * 3
    breakers.noted(at, then, 11.0, "call")  # the probe's own end, say
    assert breakers.of(*at).admits(11.0) == ("no" if then else "call")
    assert told == ([True, False, True] if then else [True, False])


def test_first_words_say_nothing_of_an_upstream_that_breaks_off_within_its_answers() -> None:
    breaker = opened()
    breaker.cause = SluiceError("upstream_truncated", "broken off")
    assert breaker.admits(10.0) == "probe"
    assert not breaker.answers()
    assert breaker.admits(10.0) == "no"


@pytest.mark.parametrize("ending", [None, BROKEN, MISTAKE])
def test_calls_from_before_it_opened_change_nothing_while_it_is_open(ending: SluiceError | None) -> None:
    breaker = opened()
    assert breaker.admits(10.0) == "probe"
    breaker.noted(ending, 10.0, "call")
    breaker.abandoned("call")
    assert [breaker.admits(10.0) for _ in range(3)] == ["no"] * 3  # the probe is still out
    breaker.noted(BROKEN, 11.0, "probe")
    breaker.noted(ending, 12.0, "call")
    assert breaker.admits(20.9) == "no"
    assert breaker.admits(21.0) == "probe"


@pytest.mark.parametrize("ending", ["left", "mistake"])
def test_a_probe_without_a_result_makes_room_for_another(ending: str) -> None:
    breaker = opened()
    for _ in range(50):
        assert [breaker.admits(10.0) for _ in range(2)] == ["probe", "no"]
        if ending == "left":
            breaker.abandoned("probe")
        else:
            breaker.noted(MISTAKE, 10.0, "probe")
    assert breaker.admits(10.0) == "probe"


def test_what_is_kept_away_gets_the_cause_and_the_time_that_is_left() -> None:
    refusal = opened().refusal("east", "m", 4.0)
    assert (refusal.code, refusal.again, refusal.retry_after) == ("upstream_error", "next", 6.0)
    assert "east" in refusal.message


STEPS = st.lists(st.sampled_from(["ask", "fine", "broken", "mistake", "left", "later"]), max_size=80)


@given(STEPS)
def test_whatever_happens_it_lets_somebody_through_after_its_time(steps: list[str]) -> None:
    breaker, now = Breaker(TRIPPING), 0.0
    under_way: list[Pass] = []
    for step in steps:
        if step == "later":
            now += 4.0
        elif step == "ask":
            if (admitted := breaker.admits(now)) != "no":
                under_way.append(admitted)
        elif under_way:
            admitted = under_way.pop(0)
            if step == "left":
                breaker.abandoned(admitted)
            else:
                breaker.noted({"fine": None, "broken": BROKEN, "mistake": MISTAKE}[step], now, admitted)
        assert under_way.count("probe") <= 1
    for admitted in under_way:
        breaker.abandoned(admitted)
    assert breaker.admits(now + 10.0) != "no"


def test_each_model_has_its_own_and_changes_are_reported_once() -> None:
    told: list[tuple[str, str, bool]] = []
    breakers = Breakers({"east": TRIPPING, "west": TRIPPING}, lambda *change: told.append(change))
    for _ in range(5):
        breakers.noted(("east", "m"), BROKEN, 0.0, "call")
        breakers.noted(("west", "m"), None, 0.0, "call")
    assert told == [("east", "m", True)]
    assert [(upstream, model) for upstream, model, _ in breakers.open()] == [("east", "m")]
    assert breakers.of("west", "m").admits(0.0) == "call"
    assert breakers.of("east", "other").admits(0.0) == "call"
    assert breakers.of("east", "m").admits(10.0) == "probe"
    breakers.noted(("east", "m"), None, 10.0, "probe")
    assert told == [("east", "m", True), ("east", "m", False)]
    assert breakers.open() == []


@pytest.mark.parametrize("failures", [0, 1, 3])
def test_names_that_clients_make_up_are_not_kept_for_ever(failures: int) -> None:
    told: dict[tuple[str, str], bool] = {}
    breakers = Breakers(
        {"east": TRIPPING}, lambda upstream, model, is_open: told.__setitem__((upstream, model), is_open)
    )
    for at in range(3000):
        breakers.of("east", f"m{at}").admits(0.0)
        for _ in range(failures):
            breakers.noted(("east", f"m{at}"), BROKEN, 0.0, "call")
    assert len(breakers._breakers) <= 1000
    assert sum(told.values()) == len(breakers.open())  # none that was dropped is shown as open


def test_a_new_configuration_leaves_the_breakers_of_what_it_does_not_change() -> None:
    told: list[tuple[str, str, bool]] = []
    names = ("kept", "elsewhere", "stricter", "gone")
    before = Breakers(dict.fromkeys(names, TRIPPING), lambda *change: told.append(change))
    for name in names:
        for _ in range(3):
            before.noted((name, "m"), BROKEN, 0.0, "call")
    told.clear()
    after = Breakers({"kept": TRIPPING, "elsewhere": TRIPPING, "stricter": Tripping(1, 10.0)}, before.changed)
    after.take_over(before, {"kept", "stricter"})
    assert after.of("kept", "m").admits(5.0) == "no"
    assert {after.of(name, "m").admits(5.0) for name in ("elsewhere", "stricter")} == {"call"}
    assert told == [("elsewhere", "m", False), ("stricter", "m", False), ("gone", "m", False)]
