"""Policies of a route: timeouts, retries, rewriting, caching."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from proxy.settings.values import Dotted, Duration, Flag, HeaderName, Headers, Json, Many, Part, Share, Wait, Whole

StreamSafety = Literal["live", "resume", "whole"]


class Timeouts(Part):
    """Time limits of a call and its parts, in seconds."""

    connect: Wait = Field(default=5.0, description="Connecting to the upstream, TLS included.")
    first_token: Wait = Field(default=60.0, description="Streams: time to the first event with content.")
    idle: Wait = Field(default=60.0, description="Streams: longest silence after the first event.")
    whole: Wait = Field(
        default=600.0, description="Whole answers: time until they are complete (speech: until it begins)."
    )
    total: Wait = Field(default=3600.0, description="The whole call, all attempts included.")


class RouteTimeouts(Part):
    """Timeouts of one route; missing ones are taken from `defaults`."""

    connect: Wait | None = Field(default=None, description="Connecting to the upstream, TLS included.")
    first_token: Wait | None = Field(default=None, description="Streams: time to the first event with content.")
    idle: Wait | None = Field(default=None, description="Streams: longest silence after the first event.")
    whole: Wait | None = Field(
        default=None, description="Whole answers: time until they are complete (speech: until it begins)."
    )
    total: Wait | None = Field(default=None, description="The whole call, all attempts included.")

    def over(self, defaults: Timeouts) -> Timeouts:
        """`defaults`, overridden by what this route sets."""
        return defaults.model_copy(update=self.model_dump(exclude_none=True))


class Retry(Part):
    """Retries of a failing target."""

    attempts: Whole = Field(default=2, ge=1, le=100, description="Attempts per target, the first included.")
    backoff: Duration = Field(
        default=0.25, description="Wait before the second attempt; doubled before each further one."
    )
    max_backoff: Duration = Field(
        default=8.0, description="Longest wait between attempts, also for an upstream's Retry-After."
    )
    budget: Share = Field(
        default=0.2, description="Retries and hedges as a share of calls; 3 per 10 s are always allowed."
    )


class RouteRetry(Part):
    """Retries of one route; missing values are taken from `defaults`."""

    attempts: Whole | None = Field(default=None, ge=1, le=100, description="Attempts per target, the first included.")
    backoff: Duration | None = Field(
        default=None, description="Wait before the second attempt; doubled before each further one."
    )
    max_backoff: Duration | None = Field(
        default=None, description="Longest wait between attempts, also for an upstream's Retry-After."
    )
    budget: Share | None = Field(
        default=None, description="Retries and hedges as a share of calls; 3 per 10 s are always allowed."
    )

    def over(self, defaults: Retry) -> Retry:
        """`defaults`, overridden by what this route sets."""
        return defaults.model_copy(update=self.model_dump(exclude_none=True))


class Breaker(Part):
    """Circuit breaker per upstream and model."""

    failures: Whole = Field(default=5, ge=1, description="Consecutive failures of the upstream that open the breaker.")
    open_for: Wait = Field(
        default=15.0, description="How long it stays open before a single call is let through as a probe."
    )


class Defaults(Part):
    """Policies of all routes, unless a route overrides them."""

    timeouts: Timeouts = Field(default_factory=Timeouts, description="Time limits of a call and its parts.")
    retry: Retry = Field(default_factory=Retry, description="Retries of a failing target.")
    breaker: Breaker = Field(default_factory=Breaker, description="Circuit breaker per upstream and model.")
    stream_safety: StreamSafety = Field(
        default="live",
        description="What to do when a stream breaks. live: end it with an error event; resume: continue it with the "
        "next target; whole: buffer the answer until it is complete, so that the next target can replace it.",
    )


class Hedge(Part):
    """Hedging: a second target is asked if the first is slow."""

    after: Duration = Field(description="How long to wait for the first token before the next target is asked too.")
    budget: Share = Field(default=0.05, description="Hedges as a share of calls.")


class SystemText(Part):
    """Changes to the system prompt."""

    prepend: str | None = Field(
        default=None, description="Text inserted before the client's system prompt, separated by a blank line."
    )
    append: str | None = Field(
        default=None, description="Text added after the client's system prompt, separated by a blank line."
    )
    replace: str | None = Field(default=None, description="Text that replaces the client's system prompt.")


class HeaderChanges(Part):
    """Changes to the headers that go to the upstream."""

    set: Headers = Field(default={}, repr=False, description="Headers set on every request.")
    remove: Many[HeaderName] = Field(default=(), description="Client headers that are not passed on.")


class RequestRewriting(Part):
    """Rewriting of requests, in this order; paths are dotted, `\\.` is a dot in a name, numbers index lists."""

    rename: Mapping[Dotted, Dotted] = Field(
        default={}, description="Mapping of old paths to new ones. An existing key at the new path is kept."
    )
    default: Mapping[Dotted, Json] = Field(
        default={}, description="Values for fields that the client did not send, by path."
    )
    set: Mapping[Dotted, Json] = Field(default={}, description="Values that are always set, by path.")
    remove: Many[Dotted] = Field(default=(), description="Paths of fields that are removed.")
    system: SystemText = Field(default_factory=SystemText, description="Changes to the system prompt.")
    headers: HeaderChanges = Field(default_factory=HeaderChanges, description="Changes to the headers.")


class ResponseRewriting(Part):
    """Rewriting of answers: whole ones, and every event of streams."""

    set: Mapping[Dotted, Json] = Field(default={}, description="Values that are always set, by path.")
    remove: Many[Dotted] = Field(default=(), description="Paths of fields that are removed.")
    model: Literal["upstream", "asked"] = Field(
        default="upstream",
        description="Model name in answers. upstream: as the upstream sent it; asked: as the client sent it.",
    )


class RouteCache(Part):
    """Which answers of a route are cached, and for how long."""

    exact: Duration | None = Field(default=None, description="How long an answer is reused for identical calls.")
    similar: Duration | None = Field(
        default=None, description="How long an answer is reused for calls with a similar last user message."
    )
    verify: str | None = Field(
        default=None, description="Model that checks whether the answer to a similar question fits."
    )
    sampled: Flag = Field(default=False, description="Also cache answers to calls with a temperature above 0 or none.")
    tools: Flag = Field(default=False, description="Also cache answers with tool calls.")
