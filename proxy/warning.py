"""Warnings about a valid configuration: models that no upstream can answer, extras that are missing."""

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Final

from proxy.planning import Plan
from proxy.settings import Settings
from proxy.settings.upstreams import UpstreamSettings

_PACKAGES: Final = {"h2": ("h2", "socksio"), "postgres": ("psycopg",)}
"""The packages of each extra whose presence is checked here."""


def dangling_models(made: Plan) -> Iterator[str]:
    """Configured models that no upstream can answer; no errors, since an operator may still create such a persona."""
    settings = made.settings
    if settings.vapi.secret and (usual := settings.vapi.model) and not _answerable(made, usual):
        yield f"vapi.model: no upstream can answer {usual}, so Vapi's calls without a model get a 404"
    for at, route in enumerate(settings.routes):
        if (cache := route.cache) and cache.similar and cache.verify and not _answerable(made, cache.verify):
            model = cache.verify
            yield f"routes.{at}.cache.verify: no upstream can answer {model}, so no similar answer is ever served"


def missing_extras(settings: Settings) -> Iterator[str]:
    """Extras that the settings need and that are not installed, except `local`: without it that upstream is off."""
    asked = [("store: postgresql://…", "postgres")] if settings.store.startswith("postgres") else []
    asked += [(f"upstreams.{name}", "h2") for name, each in settings.upstreams.items() if _other_ways(each)]
    for what, extra in asked:
        if not all(find_spec(package) for package in _PACKAGES[extra]):
            yield f'{what} needs the extra "{extra}", which is not installed: pip install "sluice[{extra}]"'


def _answerable(made: Plan, model: str) -> bool:
    """Whether any target of the name could be asked, as far as is known."""
    return any(
        made.catalog.shelves[target.upstream].refusal(target.model) is None for target in made.router.targets_of(model)
    )


def _other_ways(upstream: UpstreamSettings) -> bool:
    """Whether the upstream is reached by a protocol that our own client does not speak."""
    return upstream.http == "h2" or upstream.proxy.startswith("socks")
