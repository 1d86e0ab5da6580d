"""What follows from a configuration alone: routing table and catalogue; used by `serve` and all other commands."""

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from proxy.errors import SluiceError, invalid_field
from proxy.policies.counting import Counters
from proxy.policies.routes import Route
from proxy.providers.contract import Target
from proxy.providers.registry import FACTS, provider
from proxy.settings import Settings, load
from proxy.stages.catalog import Catalog, Shelf, chats
from proxy.stages.compiling import RouteCompiler, configured
from proxy.stages.routing import Router, routing_mismatch
from proxy.stages.screening import Screen
from proxy.upstream.sending import Upstreams


@dataclass(frozen=True, slots=True)
class Plan:
    """The parts of a configuration, with nothing running."""

    settings: Settings
    compiler: RouteCompiler
    catalog: Catalog
    router: Router
    screen: Screen

    def named(self) -> Iterator[str]:
        """The models that the configuration itself names."""
        for upstream in self.settings.upstreams.values():
            yield from upstream.models or ()
            yield from upstream.limits
        yield from (target.model for target in _named(self.settings, self.router))


@dataclass(slots=True)
class ProcessState:
    """State of the process that outlives reloads and is shared by all plans."""

    default_upstream: str | None = None  # chosen by operators, overrides config.yaml
    counters: Counters = field(default_factory=Counters)
    instance: bytes = field(default_factory=lambda: b"sluice-" + secrets.token_hex(6).encode())  # in cdn-loop


def plan(
    settings: Settings,
    upstreams: Upstreams | None = None,
    bases: Mapping[str, str] = {},  # noqa: B006 - a Mapping
    process: ProcessState | None = None,
) -> Plan:
    """The routing table and catalogue of a configuration.

    `upstreams`, `process`: those of the running process, if there is one; `bases`: see RouteCompiler.
    """
    upstreams, process = upstreams or Upstreams(), process or ProcessState()
    providers = {name: provider(upstream.provider, upstream.options) for name, upstream in settings.upstreams.items()}
    compiler = RouteCompiler(settings, providers, bases)
    shelves = {name: _shelf(compiler, name) for name in settings.upstreams}
    catalog = Catalog(shelves, upstreams.fetch)
    defaults = {name: compiler.default(name) for name in settings.upstreams}

    def default() -> Route | None:
        return defaults.get(default_upstream(settings, process.default_upstream) or "")

    router = Router(compiler.routes(), default, catalog.names, list(defaults.values()))
    catalog.aliases, catalog.targets = router.exact_routes, router.targets_of
    for target in _named(settings, router):
        shelves[target.upstream].named |= {target.model}
    screen = Screen(shelves, process.instance, process.counters.counter_for)
    return Plan(settings, compiler, catalog, router, screen)


def _named(settings: Settings, router: Router) -> Iterator[Target]:
    """The targets whose models config.yaml names: those that no client's wording completes."""
    for route in router.routes:
        yield from router.targets_of(route.match) if route.exact else (to for to in route.to if "{" not in to.model)
    for model in _asked(settings):
        yield from router.possible_targets(model)


def _asked(settings: Settings) -> Iterator[str]:
    """The models that config.yaml names as a client would, for calls that name none and for calls of our own."""
    if settings.vapi.model:
        yield settings.vapi.model
    if (similar := settings.cache.similar) and similar.embedder != "local":
        yield similar.embedder
    yield from (route.cache.verify for route in settings.routes if route.cache and route.cache.verify)


def default_upstream(settings: Settings, chosen: str | None = None) -> str | None:
    """The upstream of names that no route matches: chosen by operators, else by config.yaml, else the only upstream."""
    if chosen in settings.upstreams:
        return chosen
    if settings.default_upstream is not None:
        return settings.default_upstream
    return next(iter(settings.upstreams)) if len(settings.upstreams) == 1 else None


def first_model(catalog: Catalog, upstream: str | None) -> str | None:
    """The first chat model of an upstream, as clients call it; None where it has none.

    Raises SluiceError where its models are unknown: no default upstream, or it is off or does not answer.
    """
    shelf = catalog.shelves.get(upstream or "")
    if shelf is None:
        raise invalid_field("model", "is missing, and no upstream is the default")
    name = next((name for name, model in shelf.models.items() if chats(model)), next(iter(shelf.models), None))
    if name is not None:
        return f"{upstream}/{name}"
    if shelf.target.off:
        raise SluiceError("upstream_not_configured", f"The upstream {upstream} is off: {shelf.target.off}.")
    if shelf.trouble:
        message = f"The call names no model, and the models of the default upstream {upstream} are unknown: "
        raise SluiceError("upstream_error", message + shelf.trouble)
    return None


def _shelf(compiler: RouteCompiler, name: str) -> Shelf:
    upstream = compiler.settings.upstreams[name]
    said = {model: configured(upstream, model) for model in {*upstream.limits, *upstream.prices}}
    return Shelf(
        compiler.target(name), upstream.provider, said, upstream.models, upstream.strict_models, upstream.refresh
    )


def load_settings(path: Path, environ: Mapping[str, str], server: Mapping[str, object] | None = None) -> Settings:
    """The settings of a file, its routing tests passed. Raises ConfigError."""
    return load(path, environ, FACTS, server, _failing)


def _failing(settings: Settings) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """The routing tests that fail, each with the reason."""
    router = plan(settings).router
    for at, test in enumerate(settings.tests):
        if wrong := routing_mismatch(router, test.model, test.expect):
            yield ("tests", at), wrong


def keep_models(before: Shelf | None, now: Shelf) -> None:
    """Carries the fetched catalogue over a reload, where the upstream still has the same address."""
    if before is not None and before.target.base == now.target.base and before.state == "fetched":
        if now.fixed is None and before.fetched_at is not None and not now.target.off:
            now.take(before.models.values())
            now.fetched_at, now.trouble, now.said = before.fetched_at, before.trouble, before.said
