"""What comes back for a call: whole, or a stream of server-sent events."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

WHOLE: Final = "sluice.response"
"""A message of our server's, which names it in the scope's `extensions`: status, headers and the whole body at once."""


@dataclass(slots=True)
class Usage:
    """Tokens and cost of one answer; None: not known (never 0 for unknown)."""

    input: int | None = None
    output: int | None = None
    cached: int | None = None
    reasoning: int | None = None
    cost: float | None = None  # USD

    def and_also(self, other: "Usage") -> "Usage":
        """Both together; what only one of them knows counts as it is."""
        return Usage(
            _sum(self.input, other.input),
            _sum(self.output, other.output),
            _sum(self.cached, other.cached),
            _sum(self.reasoning, other.reasoning),
            self.cost if other.cost is None else other.cost + (self.cost or 0.0),
        )


def _sum(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else one + other


@dataclass(slots=True)
class Reply:
    """An answer on its way out. Exactly one of `body` and `stream` is set.

    `stream` yields bytes that are whole server-sent events (or, for answers that are no events, pieces as they came).
    """

    status: int
    headers: list[tuple[bytes, bytes]]  # the upstream's that may pass, and Sluice's own about the route
    body: bytes | None = None
    stream: AsyncIterator[bytes] | None = None
