"""Routes: which model names go to which targets."""

import re
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, Field

from proxy.settings.policies import (
    Hedge,
    RequestRewriting,
    ResponseRewriting,
    RouteCache,
    RouteRetry,
    RouteTimeouts,
    StreamSafety,
)
from proxy.settings.values import Many, Name, Part, Whole

_PLACES: Final = frozenset({"{model}", "{rest}"})


def _template(text: str | None) -> str | None:
    """A model template with no placeholders but `{model}` and `{rest}`; None if it is empty."""
    unknown = set(re.findall(r"\{[^{}]*\}|[{}]", text or "")) - _PLACES
    if unknown:
        raise ValueError(
            "expected a model name with no placeholders but {model} (as requested) and {rest} (what follows the prefix)"
        )
    return text or None


class TargetSettings(Part):
    """One target of a route."""

    upstream: Name = Field(description="Name of an upstream.")
    model: Annotated[str | None, AfterValidator(_template)] = Field(
        default=None,
        description="Model name at the upstream. {model}: as requested; {rest}: what follows the prefix. If unset, "
        "as requested.",
    )
    weight: Whole | None = Field(
        default=None, ge=1, description="Weight for splitting calls; on all targets of a route or on none."
    )


def _target(value: object) -> object:
    """`name` and `name/model-template` as the mapping they stand for."""
    if not isinstance(value, str):
        return value
    upstream, _, model = value.partition("/")
    return {"upstream": upstream, "model": model or None}


def _targets(value: object) -> object:
    """A single target as a list of one."""
    return [_target(item) for item in (value if isinstance(value, list) else [value])]


Targets = Annotated[
    Many[TargetSettings],
    Field(min_length=1),
    BeforeValidator(_targets, json_schema_input_type=str | TargetSettings | list[str | TargetSettings]),
]


class RouteSettings(Part):
    """A rule: a model prefix, or an exact name, and how its calls are handled."""

    prefix: str | None = Field(
        default=None, description="Matches model names that begin with this; the longest prefix wins."
    )
    model: Name | None = Field(
        default=None, description="Matches exactly this model name; takes precedence over every prefix."
    )
    to: Targets = Field(
        description="Targets in order, each `upstream`, `upstream/model-template` or a mapping: the next answers if "
        "one fails before its first token."
    )
    timeouts: RouteTimeouts = Field(default_factory=RouteTimeouts, description="Override those in `defaults`.")
    retry: RouteRetry = Field(default_factory=RouteRetry, description="Overrides that in `defaults`.")
    hedge: Hedge | None = Field(default=None, description="Hedging: a second target is asked if the first is slow.")
    request: RequestRewriting = Field(default_factory=RequestRewriting, description="Rewriting of requests.")
    response: ResponseRewriting = Field(default_factory=ResponseRewriting, description="Rewriting of answers.")
    stream_safety: StreamSafety | None = Field(default=None, description="Replaces the one in `defaults`.")
    cache: RouteCache | None = Field(default=None, description="Caching of answers. If unset, none are cached.")
