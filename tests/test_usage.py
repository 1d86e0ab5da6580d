"""Token counts are those that upstreams report, and cost follows from known prices."""

from typing import Any

import pytest

from proxy.usage import Usage, cost_of, usage_of


@pytest.mark.parametrize(
    ("said", "usage"),
    [
        ({}, Usage()),
        ({"prompt_tokens": 3, "completion_tokens": 0}, Usage(3, 0)),
        ({"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}, Usage(3, 2)),
        ({"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 9}, Usage(3, 6)),  # thoughts counted apart
        ({"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 0}, Usage(3, 2)),
        ({"prompt_tokens": 3, "total_tokens": 9}, Usage(3)),
        ({"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 4}}, Usage(9, cached=4)),
        ({"input_tokens": 9, "input_tokens_details": {"cached_tokens": 4}}, Usage(9, cached=4)),
        ({"completion_tokens_details": {"reasoning_tokens": 4}, "cost": 0.5}, Usage(reasoning=4, cost=0.5)),
        ({"cost": 0.5, "is_byok": True, "cost_details": {"upstream_inference_cost": 10}}, Usage(cost=10.5)),
        ({"cost": 0.5, "is_byok": False, "cost_details": {"upstream_inference_cost": 0.5}}, Usage(cost=0.5)),
        ({"cost": 0, "is_byok": True, "cost_details": {"upstream_inference_cost": None}}, Usage(cost=0.0)),
        ({"cost": 0.5, "is_byok": True, "cost_details": [1]}, Usage(cost=0.5)),
        ({"prompt_tokens": -1, "completion_tokens": "7", "cost": -0.5}, Usage()),
        ({"prompt_tokens": True, "completion_tokens": 1.5, "cost": True}, Usage()),
        ({"prompt_tokens_details": 7, "completion_tokens_details": None}, Usage()),
        ({"prompt_tokens": 2**63}, Usage()),  # a number of tokens that nobody can have, and that no sum could hold
    ],
)
def test_usage_is_what_is_plainly_said(said: dict[str, Any], usage: Usage) -> None:
    assert usage_of(said) == usage


def test_cached_tokens_are_counted_where_deepseek_says_them() -> None:
    said = {"prompt_tokens": 100, "completion_tokens": 1, "prompt_cache_hit_tokens": 90, "prompt_cache_miss_tokens": 10}
    assert usage_of(said).cached == 90


@pytest.mark.parametrize(
    ("usage", "prices", "dollars"),
    [
        (Usage(1_000_000, 1_000_000), {"input": 2.0, "output": 10.0}, 12.0),
        (Usage(1_000_000, 0, cached=500_000), {"input": 2.0, "output": 10.0, "cached": 1.0}, 1.5),
        (Usage(1_000_000, 0, cached=500_000), {"input": 2.0, "output": 10.0}, 2.0),
        (Usage(1, 1), {"input": 2.0}, None),
        (Usage(1, 1), {}, None),
    ],
)
def test_cost_is_by_the_price_and_unknown_is_not_nothing(
    usage: Usage, prices: dict[str, float], dollars: float | None
) -> None:
    assert cost_of(usage, prices) == dollars
