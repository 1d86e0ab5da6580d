"""What comes back for a call: whole, or a stream of server-sent events."""

from collections.abc import AsyncIterator
from dataclasses import dataclass


@dataclass(slots=True)
class Usage:
    """Tokens and cost of one answer; None: not known (never 0 for unknown)."""

    input: int | None = None
    output: int | None = None
    cached: int | None = None
    reasoning: int | None = None
    cost: float | None = None  # USD


@dataclass(slots=True)
class Reply:
    """An answer on its way out. Exactly one of `body` and `stream` is set.

    `stream` yields bytes that are whole server-sent events (or, for answers that are no events, pieces as they came).
    """

    status: int
    headers: list[tuple[bytes, bytes]]  # the upstream's that may pass, and Sluice's own about the route
    body: bytes | None = None
    stream: AsyncIterator[bytes] | None = None
