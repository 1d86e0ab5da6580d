"""The user's configuration prepared for the test: routes and policies unchanged, addresses and keys replaced."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from proxy.planning import Plan
from proxy.policies.routes import Route
from proxy.providers.contract import Target
from proxy.providers.registry import FACTS
from proxy.selftest.judging import Terms
from proxy.settings import Settings
from proxy.settings.upstreams import UpstreamSettings, Variables
from proxy.settings.values import Part
from proxy.stages.compiling import RouteCompiler

P = TypeVar("P", bound=Part)

KEY: Final = "sk-selftest"
"""Replaces every key, client keys of Sluice included."""
_SHORTEST: Final = 0.25  # minimum of scaled timeouts in seconds: a busy machine must not look like a fault


@dataclass(frozen=True, slots=True)
class Options:
    """Options of the command line. Empty values: as configured."""

    model: str = ""
    safety: str = ""
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Subject:
    """What is tested: a model name, its targets, and the settings to run with except for the addresses."""

    settings: Settings
    model: str
    route: Route
    targets: tuple[Target, ...]
    terms: Terms

    def models_of(self, upstream: str) -> list[str]:
        """The models that this upstream's list must show."""
        fixed = self.settings.upstreams[upstream].models or ()
        return sorted({*fixed, *(target.model for target in self.targets if target.upstream == upstream)})

    def notes(self) -> Iterator[str]:
        """Differences between the test and the real configuration, one per line."""
        for name in dict.fromkeys(target.upstream for target in self.targets):
            upstream = self.settings.upstreams[name]
            if upstream.reason:
                yield f"{name} is off ({upstream.reason}): switched on for this test"
            if upstream.provider == "runpod" and upstream.mode == "queue":
                yield f"{name} is called by RunPod's OpenAI-compatible API: its job queue is not covered"
            if upstream.proxy or upstream.http == "h2":
                yield f"{name} is called directly and by HTTP/1.1: proxy and h2 are not covered"
        if self.route.weighted:
            yield "targets are chosen by weight: the faulty one is the one that is asked first"
        if len(self.targets) == 1:
            yield "this route has a single target: if it fails, no other can answer"


def subject(made: Plan, options: Options) -> Subject:
    """What is to be tested of a plan's configuration. Raises SluiceError if the requested model leads nowhere."""
    model = options.model or _widest(made)
    settings = _with_safety(scaled(made.settings, options.scale), options.safety)
    choice = made.router.resolve(model)
    refusals = [made.catalog.shelves[target.upstream].refusal(target.model) for target in choice.targets]
    if refusals[0] and all(refusals):
        raise refusals[0]
    compiler = RouteCompiler(settings, made.compiler.providers)
    routes = (*compiler.routes(), compiler.default(choice.targets[0].upstream))
    route = next(each for each in routes if (each.match, each.exact) == (choice.route.match, choice.route.exact))
    shown_model = model if route.response.asked else ""
    terms = Terms(route.policies, len(choice.targets), options.scale, shown_model)
    return Subject(settings, model, route, choice.targets, terms)


def addressed(settings: Settings, ports: Mapping[str, int], folder: Path) -> Settings:
    """The settings with every upstream at its port on loopback, dummy keys, and all files in `folder`."""
    upstreams = {name: _at(upstream, ports.get(name)) for name, upstream in settings.upstreams.items()}
    return settings.model_copy(
        update={
            "upstreams": upstreams,
            "server": settings.server.model_copy(update={"host": "127.0.0.1", "workers": 1}),
            "access": settings.access.model_copy(update={"client_keys": (KEY,), "admin_token": ""}),
            "store": f"sqlite:///{folder / 'selftest.db'}",
            "cache": settings.cache.model_copy(update={"store": "memory"}),
        }
    )


def _at(upstream: UpstreamSettings, port: int | None) -> UpstreamSettings:
    """One upstream, switched on at its port; an upstream that the test does not use, at a closed port."""
    update: dict[str, Any] = {"base_url": f"http://127.0.0.1:{port or 9}", "api_key": KEY, "http": "h1", "proxy": ""}
    if upstream.provider == "runpod":
        update |= {"mode": "openai", "endpoint_id": "selftest"}
    return upstream.model_copy(update=update).resolved(FACTS[upstream.provider], Variables({}))


def scaled(settings: Settings, scale: float) -> Settings:
    """The settings with all timeouts of calls scaled, except `connect`, which no fault exceeds."""
    if scale == 1:
        return settings
    defaults = settings.defaults.model_copy(
        update={
            "timeouts": _faster(
                settings.defaults.timeouts, ("first_token", "idle", "whole", "total"), scale, _SHORTEST
            ),
            "retry": _faster(settings.defaults.retry, ("backoff", "max_backoff"), scale),
            "breaker": _faster(settings.defaults.breaker, ("open_for",), scale),
        }
    )
    routes = tuple(
        route.model_copy(
            update={
                "timeouts": _faster(route.timeouts, ("first_token", "idle", "whole", "total"), scale, _SHORTEST),
                "retry": _faster(route.retry, ("backoff", "max_backoff"), scale),
                "hedge": route.hedge and _faster(route.hedge, ("after",), scale),
            }
        )
        for route in settings.routes
    )
    upstreams = {name: _faster_upstream(upstream, scale) for name, upstream in settings.upstreams.items()}
    server = _faster(settings.server, ("ping",), scale, _SHORTEST)
    return settings.model_copy(
        update={"defaults": defaults, "routes": routes, "upstreams": upstreams, "server": server}
    )


def _faster_upstream(upstream: UpstreamSettings, scale: float) -> UpstreamSettings:
    breaker = upstream.breaker and _faster(upstream.breaker, ("open_for",), scale)
    return _faster(upstream, ("max_wait", "job_wait"), scale).model_copy(update={"breaker": breaker})


def _faster(part: P, names: Iterable[str], scale: float, least: float = 0.0) -> P:
    """A copy with these times scaled; None stays."""
    times = {name: value for name in names if (value := getattr(part, name)) is not None}
    return part.model_copy(update={name: max(least, value * scale) for name, value in times.items()})


def _with_safety(settings: Settings, safety: str) -> Settings:
    if not safety:
        return settings
    routes = tuple(route.model_copy(update={"stream_safety": safety}) for route in settings.routes)
    defaults = settings.defaults.model_copy(update={"stream_safety": safety})
    return settings.model_copy(update={"defaults": defaults, "routes": routes})


def _widest(made: Plan) -> str:
    """A model name of the route with the most targets; among equals, the one written first."""
    found = [
        (len(made.router.resolve(name).targets), name)
        for route in made.compiler.routes()
        for name in _names(made, route)
    ]
    if not found:
        return "selftest"
    most = max(count for count, _ in found)
    return next(name for count, name in found if count == most)


def _names(made: Plan, route: Route) -> Iterator[str]:
    """A name that this route matches and whose targets are in their catalogues; nothing if none is known."""
    for name in _candidates(made.settings, route):
        targets = made.router.resolve(name).targets
        catalogues = [made.settings.upstreams[target.upstream].models for target in targets]
        fits = all(models is None or target.model in models for models, target in zip(catalogues, targets, strict=True))
        if fits and made.router.resolve(name).route.match == route.match:
            yield name
            return


def _candidates(settings: Settings, route: Route) -> list[str]:
    if route.exact:
        return [route.match]
    listed = [name for upstream in settings.upstreams.values() for name in upstream.models or ()]
    names = [*(test.model for test in settings.tests), *listed, *(route.match + name for name in listed)]
    return [*(name for name in names if name.startswith(route.match) and name != route.match), f"{route.match}selftest"]
