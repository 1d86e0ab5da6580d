"""Tokens and cost of answers as upstreams report them: parsed, added up and priced."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeGuard

_MOST_TOKENS: Final = 2**53


@dataclass(slots=True)
class Usage:
    """Tokens and cost of one answer; None: not known (never 0 for unknown)."""

    input: int | None = None
    output: int | None = None
    cached: int | None = None
    reasoning: int | None = None
    cost: float | None = None  # USD

    def and_also(self, other: "Usage") -> "Usage":
        """Both added up; a value known to only one of them counts as it is."""
        return Usage(
            _sum(self.input, other.input),
            _sum(self.output, other.output),
            _sum(self.cached, other.cached),
            _sum(self.reasoning, other.reasoning),
            self.cost if other.cost is None else other.cost + (self.cost or 0.0),
        )


NO_USAGE: Final = Usage()
"""The usage of a call for which no upstream has reported any."""


def usage_of(usage: Mapping[str, Any]) -> Usage:
    """Parses OpenAI's usage object (names of the chat or Responses API; `cost` as OpenRouter reports it)."""
    get = usage.get
    inside = get("prompt_tokens_details") or get("input_tokens_details")
    made = get("completion_tokens_details") or get("output_tokens_details")
    cached = inside.get("cached_tokens") if isinstance(inside, dict) else get("prompt_cache_hit_tokens")  # DeepSeek's
    reasoning = made.get("reasoning_tokens") if isinstance(made, dict) else None
    read, written = get("prompt_tokens", get("input_tokens")), get("completion_tokens", get("output_tokens"))
    counts = read, written, cached, reasoning  # checked as `is_count` does, without four calls of it
    read, written, cached, reasoning = [n if type(n) is int and 0 <= n <= _MOST_TOKENS else None for n in counts]
    total = get("total_tokens")
    if type(total) is int and read is not None and written is not None and read + written < total <= _MOST_TOKENS:
        written = total - read  # reasoning is reported outside of output, at the same price (xAI, Gemini)
    return Usage(read, written, cached, reasoning, _cost(usage) if "cost" in usage else None)


def cost_of(usage: Usage, prices: Mapping[str, float]) -> float | None:
    """USD of an answer; None where a needed price is unknown.

    Without a price of their own, cached tokens cost as input.
    """
    if usage.input is None or "input" not in prices or (usage.output and "output" not in prices):
        return None
    cached = min(usage.cached or 0, usage.input)  # some report them outside of input
    dollars = (usage.input - cached) * prices["input"] + cached * prices.get("cached", prices["input"])
    return (dollars + (usage.output or 0) * prices.get("output", 0.0)) / 1e6


def _sum(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else one + other


def is_count(value: Any) -> TypeGuard[int]:
    """Whether an upstream's number can be a token count: not negative, and small enough to be summed up in JSON."""
    return type(value) is int and 0 <= value <= _MOST_TOKENS


def _cost(usage: Mapping[str, Any]) -> float | None:
    """What OpenRouter charges, plus the provider's charge where one's own key is used (BYOK)."""
    cost, details = _dollars(usage["cost"]), usage.get("cost_details")
    if cost is None or usage.get("is_byok") is not True or not isinstance(details, dict):
        return cost
    return cost + (_dollars(details.get("upstream_inference_cost")) or 0.0)


def _dollars(value: Any) -> float | None:
    known = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _MOST_TOKENS
    return float(value) if known else None
