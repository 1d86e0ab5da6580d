"""Limits of one client key, and the rate-limit headers that its clients get."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from math import ceil
from time import monotonic_ns
from typing import Final

from proxy.call import Call, Headers
from proxy.errors import SluiceError
from proxy.policies.windows import Minute, Window

_SECOND: Final = 10**9


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a key; None: unlimited."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None  # input and output
    monthly_budget: float | None = None  # USD

    @property
    def by_minute(self) -> bool:
        """Whether calls or tokens per minute are limited."""
        return self.requests_per_minute is not None or self.tokens_per_minute is not None


@dataclass(slots=True)
class Allowance:
    """A key's name, its limits, and its usage so far. `spent`: USD spent this month, by key name."""

    key: str
    tenant: str
    limits: Limits
    expires: float | None
    spent: Callable[[str], float]
    window: Window | None = None  # where limits per minute are set
    clock: Callable[[], int] = monotonic_ns

    def enter(self, call: Call) -> None:
        """Admits a call and keeps the rate-limit headers for its client. Raises policy_rate_limited."""
        limits = self.limits
        if limits.monthly_budget is not None and self.spent(self.key) >= limits.monthly_budget:
            raise self._spent(limits.monthly_budget)
        if self.window is not None:
            minute = self.window.enter(limits.requests_per_minute, limits.tokens_per_minute, self.clock())
            call.trace.quota = limit_headers(limits, minute)
            if minute.over:
                raise self._over(minute)

    def used(self, tokens: int) -> None:
        """Counts the tokens that a call took."""
        if self.window is not None and self.limits.tokens_per_minute is not None:
            self.window.used(tokens, self.clock())

    def _over(self, minute: Minute) -> SluiceError:
        seconds = ceil(minute.wait / _SECOND)
        what = "requests" if minute.over == "requests_per_minute" else "tokens"
        most = getattr(self.limits, minute.over)
        return _refused(
            f"The key {self.key} has reached its limit of {most} {what} per minute ({minute.over}). "
            f"The next request is accepted in {seconds} s.",
            seconds,
        )

    def _spent(self, budget: float) -> SluiceError:
        now = datetime.now(UTC)
        ends = month_after(now)
        error = _refused(
            f"The key {self.key} has spent this month's budget of {budget:g} USD (monthly_budget). "
            f"The next month begins at {ends:%Y-%m-%dT%H:%M:%SZ}.",
            max(1, ceil((ends - now).total_seconds())),
        )
        error.should_retry = False
        return error


def _refused(message: str, seconds: int) -> SluiceError:
    # As a header of its own: `retry_after` is limited to a minute.
    return SluiceError("policy_rate_limited", message, lines=[(b"retry-after", b"%d" % seconds)])


def month_after(now: datetime) -> datetime:
    """The start of the next calendar month, UTC."""
    year, month = (now.year, now.month + 1) if now.month < 12 else (now.year + 1, 1)
    return datetime(year, month, 1, tzinfo=UTC)


def limit_headers(limits: Limits, minute: Minute) -> Headers:
    """OpenAI's x-ratelimit headers, for the limits that the key has."""
    lines: Headers = []
    for what, most, count, ends in (
        (b"requests", limits.requests_per_minute, minute.calls, minute.calls_end),
        (b"tokens", limits.tokens_per_minute, minute.tokens, minute.tokens_end),
    ):
        if most is not None:
            lines += [
                (b"x-ratelimit-limit-" + what, b"%d" % most),
                (b"x-ratelimit-remaining-" + what, b"%d" % max(0, most - count)),
                (b"x-ratelimit-reset-" + what, _duration(ends)),
            ]
    return lines


def _duration(nanoseconds: int) -> bytes:
    """In OpenAI's notation: `1m0s`, `6.2s`, `0s`."""
    minutes, rest = divmod(round(nanoseconds / _SECOND, 1), 60)
    return b"%dm%gs" % (minutes, rest) if minutes else b"%gs" % rest
