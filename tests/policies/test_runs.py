"""A call's way through its targets: the caller gets the first failure, and some failures end the way at once."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from proxy.call import Call
from proxy.clocks import Watchdog
from proxy.errors import SluiceError
from proxy.policies.retries import Budget
from proxy.policies.rewriting import RequestRules, ResponseRules
from proxy.policies.routes import Choice, Policies, Retry, Route, Timeouts
from proxy.policies.runs import Run
from proxy.providers.contract import Order, Provider, Target
from tests.providers.targets import target

CLOCKS = Timeouts(1, 1, 1, 1, 1)


@dataclass
class Ready:
    """A prepared call: contexts by model, refusals by model."""

    contexts: dict[str, int] = field(default_factory=dict)
    refused: dict[str, SluiceError] = field(default_factory=dict)
    changes: tuple[str, ...] = ("set x",)

    def order(self, target: Target) -> Order:
        if target.model in self.refused:
            raise self.refused[target.model]
        return Order("chat/completions", b"{}", False, [], target)

    def context(self, target: Target) -> int | None:
        return self.contexts.get(target.model)


def run_over(*models: str, stream_safety: str = "live", **ready: Any) -> Run:
    targets = tuple(target(Provider(), model, base="http://x") for model in models)
    policies = Policies(CLOCKS, Retry(1, 0, 0, 0), stream_safety)
    route = Route("r", "r", True, targets, RequestRules(), ResponseRules(), policies)
    call = Call("1", "openai", "chat/completions", "m", b"{}", {})

    async def made() -> Run:
        return Run(call, Choice(route, targets), Ready(**ready), Watchdog().clock(1), Budget(0))

    return asyncio.run(made())


def failure(code: str = "upstream_error", again: Any = "next", **more: Any) -> SluiceError:
    return SluiceError(code, f"{code} it was", again=again, **more)


def names(run: Run) -> list[str]:
    found = []
    while order := run.next_order():
        found.append(order.target.model)
    return found


def test_targets_come_in_order() -> None:
    assert names(run_over("a", "b", "c")) == ["a", "b", "c"]


def test_those_that_cannot_be_asked_are_passed_over_and_the_first_reason_is_kept() -> None:
    run = run_over("a", "b", refused={"a": failure("upstream_not_configured"), "b": failure("model_not_found")})
    assert names(run) == []
    assert run.given_up().code == "upstream_not_configured"


def test_the_first_failure_is_the_cause_also_before_a_refusal() -> None:
    run = run_over("a", "b", "c", refused={"a": failure("upstream_not_configured")})
    for code in ("upstream_error", "upstream_overloaded"):
        order = run.next_order()
        assert order is not None
        run.failed(failure(code), order.target)
    cause = run.given_up()
    assert (cause.code, cause.should_retry) == ("upstream_error", False)


def test_an_error_with_retry_after_may_be_retried() -> None:
    run = run_over("a")
    run.failed(failure("upstream_rate_limited", retry_after=3.0), run.left[0])
    assert run.given_up().should_retry is None


@pytest.mark.parametrize(
    "broken", [failure("client_invalid_request", "never"), failure("upstream_timeout_total", "never")]
)
def test_after_some_failures_nobody_else_is_asked(broken: SluiceError) -> None:
    run = run_over("a", "b")
    with pytest.raises(SluiceError) as raised:
        run.failed(broken, run.left[0])
    assert raised.value is broken


def test_the_first_failure_is_the_cause_where_a_later_target_ends_it() -> None:
    run = run_over("a", "b", "c")
    first, second = run.left[0], run.left[1]
    run.failed(failure("upstream_overloaded"), first)
    with pytest.raises(SluiceError, match="upstream_overloaded"):
        run.failed(failure("client_invalid_request", "never"), second)
    assert run.call.trace.model == "a"


def test_what_was_too_long_goes_only_to_a_larger_context() -> None:
    contexts = {"a": 100, "same": 100, "small": 50, "large": 200}
    run = run_over("a", "same", "small", "unknown", "large", contexts=contexts)
    order = run.next_order()
    assert order is not None
    run.failed(failure("context_length_exceeded", "never"), order.target)
    assert names(run) == ["large"]


def test_what_was_too_long_for_an_unknown_context_goes_nowhere() -> None:
    run = run_over("unknown", "large", contexts={"large": 200})
    order = run.next_order()
    assert order is not None
    run.failed(failure("context_length_exceeded", "never"), order.target)
    assert names(run) == []
    assert run.given_up().code == "context_length_exceeded"


@pytest.mark.parametrize(
    ("models", "safety", "before", "after"),
    [("ab", "live", "content", "nothing"), ("a", "live", "nothing", "nothing"), ("ab", "whole", "all", "all"),
     ("ab", "resume", "content", "nothing")],
)  # fmt: skip
def test_events_are_held_while_another_could_still_answer(models: str, safety: str, before: str, after: str) -> None:
    run = run_over(*models, stream_safety=safety)
    run.next_order()
    assert run.hold == before
    run.next_order()
    assert run.hold == after
