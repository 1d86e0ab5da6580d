"""Policies of a route: timeouts, retries, rewriting, caching."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from proxy.settings.values import Dotted, Duration, Flag, HeaderName, Headers, Json, Many, Part, Share, Wait, Whole

StreamSafety = Literal["live", "resume", "whole"]


class Timeouts(Part):
    """Seconds that parts of a call may take."""

    connect: Wait = Field(default=5.0, description="Until the connection to the upstream stands, TLS included.")
    first_token: Wait = Field(default=60.0, description="Streams: until the first event with content.")
    idle: Wait = Field(default=60.0, description="Streams: silence after the first event.")
    whole: Wait = Field(
        default=600.0, description="Answers asked for in one piece: until they are there (speech: until it begins)."
    )
    total: Wait = Field(default=3600.0, description="The call with all its attempts.")


class RouteTimeouts(Part):
    """Timeouts of one route; missing ones are taken from `defaults`."""

    connect: Wait | None = Field(default=None, description="Until the connection to the upstream stands, TLS included.")
    first_token: Wait | None = Field(default=None, description="Streams: until the first event with content.")
    idle: Wait | None = Field(default=None, description="Streams: silence after the first event.")
    whole: Wait | None = Field(
        default=None, description="Answers asked for in one piece: until they are there (speech: until it begins)."
    )
    total: Wait | None = Field(default=None, description="The call with all its attempts.")

    def over(self, defaults: Timeouts) -> Timeouts:
        """`defaults`, overridden by what this route sets."""
        return defaults.model_copy(update=self.model_dump(exclude_none=True))


class Retry(Part):
    """How often a failing target is asked again."""

    attempts: Whole = Field(default=2, ge=1, le=100, description="Tries per target, the first included.")
    backoff: Duration = Field(default=0.25, description="Wait before the second try; doubles with each further one.")
    max_backoff: Duration = Field(
        default=8.0, description="Longest wait between tries, a Retry-After of the upstream included."
    )
    budget: Share = Field(
        default=0.2, description="Retries and hedges as a share of calls; 3 in 10 s are always allowed."
    )


class RouteRetry(Part):
    """Retries of one route; missing values are taken from `defaults`."""

    attempts: Whole | None = Field(default=None, ge=1, le=100, description="Tries per target, the first included.")
    backoff: Duration | None = Field(
        default=None, description="Wait before the second try; doubles with each further one."
    )
    max_backoff: Duration | None = Field(default=None, description="Longest wait between tries.")
    budget: Share | None = Field(default=None, description="Retries and hedges as a share of calls.")

    def over(self, defaults: Retry) -> Retry:
        """`defaults`, overridden by what this route sets."""
        return defaults.model_copy(update=self.model_dump(exclude_none=True))


class Breaker(Part):
    """When an upstream's model is left alone for a while."""

    failures: Whole = Field(
        default=5, ge=1, description="Failures in a row, the upstream's fault, that open the breaker."
    )
    open_for: Wait = Field(
        default=15.0, description="How long nothing is sent before a single call probes the upstream."
    )


class Defaults(Part):
    """Policies of every route unless it says otherwise."""

    timeouts: Timeouts = Field(default_factory=Timeouts, description="How long the parts of a call may take.")
    retry: Retry = Field(default_factory=Retry, description="How often a failing target is asked again.")
    breaker: Breaker = Field(default_factory=Breaker, description="When an upstream's model is left alone for a while.")
    stream_safety: StreamSafety = Field(
        default="live",
        description="When a stream breaks. live: end it with an error event; resume: go on with the next target; "
        "whole: hold the answer back until it is complete.",
    )


class Hedge(Part):
    """Asking a second target where the first is slow."""

    after: Duration = Field(description="The next target is asked too when no token came for so long.")
    budget: Share = Field(default=0.05, description="Hedges as a share of calls.")


class SystemText(Part):
    """Changes to the system prompt."""

    prepend: str | None = Field(
        default=None, description="Put before the client's system text, with a blank line between."
    )
    append: str | None = Field(default=None, description="Put behind the client's system text.")
    replace: str | None = Field(default=None, description="Put in place of the client's system text.")


class HeaderChanges(Part):
    """Changes to the headers that go to the upstream."""

    set: Headers = Field(default={}, repr=False, description="Headers always sent.")
    remove: Many[HeaderName] = Field(default=(), description="Headers of the client that are not passed on.")


class RequestRewriting(Part):
    """Rewriting on the way out, in this order; paths are dotted, `\\.` is a dot in a name, numbers index lists."""

    rename: Mapping[Dotted, Dotted] = Field(default={}, description="Old path: new path. A key that is there is kept.")
    default: Mapping[Dotted, Json] = Field(default={}, description="Set only where the client sent nothing.")
    set: Mapping[Dotted, Json] = Field(default={}, description="Always set.")
    remove: Many[Dotted] = Field(default=(), description="Taken out.")
    system: SystemText = Field(default_factory=SystemText, description="Changes to the system prompt.")
    headers: HeaderChanges = Field(default_factory=HeaderChanges, description="Changes to the headers.")


class ResponseRewriting(Part):
    """Rewriting on the way back, of whole answers and of every event of a stream alike."""

    set: Mapping[Dotted, Json] = Field(default={}, description="Always set.")
    remove: Many[Dotted] = Field(default=(), description="Taken out.")
    model: Literal["upstream", "asked"] = Field(
        default="upstream",
        description="The model name in answers. upstream: as it gave it; asked: the name the client used.",
    )


class RouteCache(Part):
    """Which answers of a route are kept, and for how long."""

    exact: Duration | None = Field(default=None, description="How long an answer serves the very same call.")
    similar: Duration | None = Field(
        default=None, description="How long it serves calls whose last user message is alike."
    )
    verify: str | None = Field(default=None, description="A model that is asked whether a similar answer fits.")
    sampled: Flag = Field(default=False, description="Also answers made with temperature above 0, or none given.")
    tools: Flag = Field(default=False, description="Also answers with tool calls.")
