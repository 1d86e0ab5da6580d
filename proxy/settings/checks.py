"""Checks between the parts of a configuration: names that exist, distinct routes, protected doors."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from proxy.hosts import is_loopback
from proxy.settings.policies import RequestRewriting, ResponseRewriting
from proxy.settings.problems import Path, suggestion_or_all
from proxy.settings.routes import RouteSettings
from proxy.settings.schema import Settings
from proxy.settings.upstreams import OWN_KEYS, UpstreamSettings

Finding = tuple[Path, str]

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_NO_MODEL: Final = "rewriting cannot change the model: choose it in `to`, and the name in answers with `response.model`"


def check(settings: Settings, upstreams: Iterable[str]) -> Iterator[Finding]:
    """Everything that is wrong between the parts. `upstreams`: all names written, invalid ones included."""
    names = list(upstreams)
    yield from check_access(settings)
    yield from check_names(settings, names)
    for name, upstream in settings.upstreams.items():
        yield from _check_upstream(name, upstream)
        yield from _check_models(name, upstream)
    yield from _check_apart(settings.routes)
    for number, route in enumerate(settings.routes):
        yield from _check_route(("routes", number), route, settings.upstreams)
    for name, persona in settings.personas.items():
        if "/" in name:
            yield ("personas", name), "the name of a persona may not contain a slash"
        yield from _check_catalogue(("personas", name, "model"), persona.upstream, persona.model, settings.upstreams)
        if any(_is_model(path) for path in persona.set):
            yield ("personas", name, "set"), "cannot set the model: use the persona's key `model`"
    if settings.cache.similar:
        yield from _check_embedder(settings.cache.similar.embedder, settings.upstreams)


def check_access(settings: Settings) -> Iterator[Finding]:
    """Open access only on loopback; required keys only if there are any."""
    host = settings.server.host
    if settings.access.keys == "open" and not is_loopback(host):
        if "keys" in settings.access.model_fields_set:
            yield ("access", "keys"), f"open is allowed on loopback hosts only, not on {host}: set it to required"
        else:
            message = f"access.keys is open by default, which is not allowed on {host}: set it to required"
            yield ("server", "host"), message
    if settings.access.keys == "required" and not settings.access.client_keys:
        yield ("access", "keys"), "required, but access.client_keys has no key (empty ones do not count): add one"


def check_names(settings: Settings, upstreams: list[str]) -> Iterator[Finding]:
    """References to unknown upstreams."""
    named: list[tuple[Path, str]] = []
    if settings.default_upstream:
        named.append((("default_upstream",), settings.default_upstream))
    for number, route in enumerate(settings.routes):
        named += [(("routes", number, "to", index), target.upstream) for index, target in enumerate(route.to)]
    named += [(("personas", name, "upstream"), persona.upstream) for name, persona in settings.personas.items()]
    for number, test in enumerate(settings.tests):
        named += [(("tests", number, "expect", at), text.partition("/")[0]) for at, text in enumerate(test.expect)]
    similar = settings.cache.similar
    if similar and similar.embedder != "local":
        named.append((("cache", "similar", "embedder"), similar.embedder.partition("/")[0]))
    for path, name in named:
        if name not in upstreams:
            yield path, f'no upstream is called "{name}"{suggestion_or_all(name, upstreams)}'
    if not upstreams:
        yield ("upstreams",), "at least one upstream is needed"


def _check_upstream(name: str, upstream: UpstreamSettings) -> Iterator[Finding]:
    """Its name, and keys of the config that only another provider has."""
    if name == "persona":
        yield ("upstreams", name), "reserved name: persona/NAME is how personas are called"
    elif not _NAME.fullmatch(name):
        yield (
            ("upstreams", name),
            "expected a name of letters, digits, dots, dashes and underscores that begins with a letter or digit",
        )
    for provider, keys in OWN_KEYS.items():
        for key in keys:
            if key in upstream.model_fields_set and upstream.provider != provider:
                yield (
                    ("upstreams", name, key),
                    f"this key is for the provider {provider} only, not for {upstream.provider}",
                )


def _check_models(name: str, upstream: UpstreamSettings) -> Iterator[Finding]:
    """Limits and prices for models that its fixed catalogue does not list."""
    path: Path = ("upstreams", name)
    listed = () if isinstance(upstream.prefill, bool) else upstream.prefill
    named = [((*path, key, model), model) for key in ("limits", "prices") for model in getattr(upstream, key)]
    aliases = {model.removesuffix(":latest") for model in upstream.models or ()}  # Ollama has each under both names
    for place, model in [*named, *(((*path, "prefill", at), model) for at, model in enumerate(listed))]:
        if model.removesuffix(":latest") not in aliases:
            yield from _check_catalogue(place, name, model, {name: upstream})


def _check_embedder(embedder: str, upstreams: Mapping[str, UpstreamSettings]) -> Iterator[Finding]:
    """That the configured embedder exists."""
    upstream, _, model = embedder.partition("/")
    at: Path = ("cache", "similar", "embedder")
    if model:
        yield from _check_catalogue(at, upstream, model, upstreams)
    elif embedder != "local":
        yield at, "expected local or UPSTREAM/MODEL"


def _check_apart(routes: Iterable[RouteSettings]) -> Iterator[Finding]:
    """No two routes for the same names."""
    taken = set[tuple[str, str]]()
    for number, route in enumerate(routes):
        for key, value in (("prefix", route.prefix), ("model", route.model)):
            if value is None:
                continue
            if (key, value) in taken:
                yield ("routes", number, key), f'a route above already has the {key} "{value}"'
            taken.add((key, value))


def _check_route(path: Path, route: RouteSettings, upstreams: Mapping[str, UpstreamSettings]) -> Iterator[Finding]:
    """One route by itself, and its targets against fixed catalogues."""
    if (route.prefix is None) == (route.model is None):
        yield (*path, "prefix"), "a route needs a prefix or a model, but not both"
    if route.model is not None and route.model.startswith("persona/"):
        message = "persona/NAME is reserved for personas: define it under `personas`, or choose another name"
        yield (*path, "model"), message
    if len({target.weight is None for target in route.to}) > 1:
        yield (*path, "to"), "either all targets of a route need a weight, or none"
    for index, target in enumerate(route.to):
        at = (*path, "to", index)
        template = target.model or "{model}"
        if route.model is not None:
            if "{rest}" in template:
                yield at, "{rest} is what follows the prefix, but this route has no prefix"
            template = template.replace("{model}", route.model)
        if "{" not in template:
            yield from _check_catalogue(at, target.upstream, template, upstreams)
    yield from _check_rewriting(path, route.request, route.response)


def _check_catalogue(
    path: Path, upstream: str, model: str, upstreams: Mapping[str, UpstreamSettings]
) -> Iterator[Finding]:
    """A model that the upstream's fixed catalogue does not list."""
    catalogue = upstreams[upstream].models if upstream in upstreams else None
    if catalogue is not None and model not in catalogue:
        yield path, f'"{model}" is not in upstreams.{upstream}.models{suggestion_or_all(model, catalogue)}'


def _check_rewriting(path: Path, request: RequestRewriting, response: ResponseRewriting) -> Iterator[Finding]:
    """No rule may change `model`, on which routing depends."""
    for key, part in (("rename", request.rename), ("default", request.default), ("set", request.set)):
        for name in part:
            if _is_model(name) or (key == "rename" and _is_model(request.rename[name])):
                yield (*path, "request", key, name), _NO_MODEL
    for name in response.set:
        if _is_model(name):
            yield (*path, "response", "set", name), _NO_MODEL
    for direction, removed in (("request", request.remove), ("response", response.remove)):
        for index, name in enumerate(removed):
            if _is_model(name):
                yield (*path, direction, "remove", index), _NO_MODEL
    system = request.system
    if system.replace is not None and (system.prepend is not None or system.append is not None):
        yield (*path, "request", "system"), "replace cannot be combined with prepend or append"


def _is_model(path: str) -> bool:
    return path.partition(".")[0].lower() == "model"
