"""A routing rule: the names it matches, its targets, and the policies for its calls."""

from dataclasses import dataclass

from proxy.policies.rewriting import RequestRules, ResponseRules
from proxy.providers.contract import Target


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds that the parts of a call may take, as `timeouts` in config.yaml has them."""

    connect: float
    first_token: float
    idle: float
    whole: float
    total: float


@dataclass(frozen=True, slots=True)
class Retry:
    """Attempts per target (the first included), delays in seconds, and the retry budget as a share of calls."""

    attempts: int
    backoff: float
    max_backoff: float
    budget: float


@dataclass(frozen=True, slots=True)
class Hedge:
    """A second target is asked after `after` seconds without a token, for at most the share `budget` of calls."""

    after: float
    budget: float


@dataclass(frozen=True, slots=True)
class CachePolicy:
    """What the cache may keep of a route; times in seconds, 0: nothing."""

    exact: float = 0.0
    sampled: bool = False
    tools: bool = False
    similar: float = 0.0
    verify: str = ""  # a model that judges whether two questions mean the same


@dataclass(frozen=True, slots=True)
class Policies:
    """How a route treats its calls."""

    timeouts: Timeouts
    retry: Retry
    stream_safety: str = "live"
    hedge: Hedge | None = None
    cache: CachePolicy | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """A rule: model names it matches, targets as templates, rewriting and policies."""

    name: str  # as in metrics and x-sluice-route
    match: str  # the prefix, or the whole name where `exact`
    exact: bool
    to: tuple[Target, ...]  # `model` still a template
    request: RequestRules
    response: ResponseRules
    policies: Policies
    written: bool = True  # False: an implicit route of an upstream, or of the default upstream
    weighted: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """A route with its targets for one model name, in the order in which they are tried."""

    route: Route
    targets: tuple[Target, ...]
