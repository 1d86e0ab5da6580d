"""A failed attempt is repeated at the same target within the route's budget and the call's time."""

import pytest

from tests.doubles.faults import Status
from tests.doubles.openai import OpenAIDouble
from tests.running import sluice

CONFIG = """
upstreams: {{east: {{provider: openai, base_url: {east}, api_key: sk-east}}}}
defaults:
  retry: {{attempts: 2, backoff: 1ms, budget: {budget}}}
  breaker: {{failures: 1000}}
"""
CALL = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}


@pytest.mark.parametrize(("budget", "retries"), [("0%", 3), ("100%", 5)])
def test_retries_are_a_share_of_the_calls_and_three_are_always_allowed(
    east: OpenAIDouble, budget: str, retries: int
) -> None:
    east.always = Status(500)
    with sluice(CONFIG.format(east=east.url, budget=budget)) as proxy:
        attempts = [proxy.chat(CALL).headers["x-sluice-attempts"] for _ in range(5)]
    assert attempts == ["east:500,east:500"] * retries + ["east:500"] * (5 - retries)
    assert len(east.calls) == 5 + retries


def test_a_retry_that_cannot_come_in_time_is_not_waited_for(east: OpenAIDouble) -> None:
    with sluice(CONFIG.format(east=east.url, budget="100%")) as proxy:
        for wait, attempts in ((10, "east:429,east:200"), (5000, "east:429")):
            east.script(Status(429, retry_after_ms=wait))
            assert proxy.chat(CALL, x_sluice_timeout="4s").headers["x-sluice-attempts"] == attempts
