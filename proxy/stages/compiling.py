"""Compiles the settings into routes and targets: the only place where targets are made."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

from proxy.policies import routes as rules
from proxy.policies.rewriting import (
    HeaderChanges,
    RequestRewrite,
    RequestRules,
    ResponseRewrite,
    ResponseRules,
    SystemText,
)
from proxy.policies.routes import Route
from proxy.providers.contract import Model, Provider, Target
from proxy.settings import Settings
from proxy.settings.routes import RouteSettings, TargetSettings
from proxy.settings.upstreams import UpstreamSettings


class Preset(Protocol):
    """A persona, from the config or from the store."""

    @property
    def upstream(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def system(self) -> str | None: ...
    @property
    def set(self) -> Mapping[str, Any]: ...


_EVERYTHING: Final = "*"  # name of the route with the empty prefix; "" means that no route was chosen


@dataclass(frozen=True, slots=True)
class RouteCompiler:
    """Makes the routes and targets of a configuration.

    `bases`: addresses that are known only at run time (embedded models).
    """

    settings: Settings
    providers: Mapping[str, Provider]  # by upstream
    bases: Mapping[str, str] = field(default_factory=dict)

    def target(self, name: str, model: str = "", weight: int = 1) -> Target:
        """A target at the upstream `name`; `model` may be a template."""
        upstream = self.settings.upstreams[name]
        return Target(
            upstream=name,
            model=model,
            provider=self.providers[name],
            base=self.bases.get(name) or upstream.base_url,
            key=upstream.api_key,
            headers=tuple((key.encode(), value.encode()) for key, value in upstream.headers.items()),
            via=upstream.proxy or ("h2" if upstream.http == "h2" else ""),
            weight=weight,
            prefill=upstream.prefill if isinstance(upstream.prefill, bool) else frozenset(upstream.prefill),
            options=upstream.options,
            off=upstream.reason,
        )

    def routes(self) -> list[Route]:
        """The written routes, and the implicit route `NAME/` of each upstream, unless a written one replaces it."""
        written = [self._route(route) for route in self.settings.routes]
        written += [self.persona(name, persona) for name, persona in self.settings.personas.items()]
        taken = {route.match for route in written if not route.exact}
        unwritten = [
            self._plain(f"{name}/", self.target(name, "{rest}"))
            for name in self.settings.upstreams
            if f"{name}/" not in taken
        ]
        return written + unwritten

    def persona(self, name: str, preset: Preset) -> Route:
        """The route of `persona/NAME`: one target, with the preset's system text and parameters."""
        rewrite = RequestRewrite(set=preset.set, system=SystemText(prepend=preset.system))
        plain = self._plain(f"persona/{name}", self.target(preset.upstream, preset.model))
        return replace(plain, exact=True, request=RequestRules.of(rewrite), written=True)

    def default(self, name: str) -> Route:
        """The route of names that no other route matches."""
        return self._plain("", self.target(name, "{model}"))

    def _route(self, route: RouteSettings) -> Route:
        defaults = self.settings.defaults
        match = route.model if route.model is not None else route.prefix or ""
        policies = rules.Policies(
            timeouts=rules.Timeouts(**route.timeouts.over(defaults.timeouts).model_dump()),
            retry=rules.Retry(**route.retry.over(defaults.retry).model_dump()),
            stream_safety=route.stream_safety or defaults.stream_safety,
            hedge=rules.Hedge(route.hedge.after, route.hedge.budget) if route.hedge else None,
            cache=_cache_policy(route),
        )
        return Route(
            name=match or _EVERYTHING,
            match=match,
            exact=route.model is not None,
            to=tuple(self._to(target) for target in route.to),
            request=RequestRules.of(_request_of(route)),
            response=ResponseRules.of(ResponseRewrite(route.response.set, route.response.remove, route.response.model)),
            policies=policies,
            weighted=any(target.weight is not None for target in route.to),
        )

    def _to(self, target: TargetSettings) -> Target:
        return self.target(target.upstream, target.model or "{model}", target.weight or 1)

    def _plain(self, match: str, target: Target) -> Route:
        defaults = self.settings.defaults
        policies = rules.Policies(
            timeouts=rules.Timeouts(**defaults.timeouts.model_dump()),
            retry=rules.Retry(**defaults.retry.model_dump()),
            stream_safety=defaults.stream_safety,
        )
        nothing, untouched = RequestRules(), ResponseRules()
        name = match or "default"
        return Route(name, match, False, (target,), nothing, untouched, policies, written=False)


def _request_of(route: RouteSettings) -> RequestRewrite:
    said = route.request
    return RequestRewrite(
        rename=said.rename,
        default=said.default,
        set=said.set,
        remove=said.remove,
        system=SystemText(said.system.prepend, said.system.append, said.system.replace),
        headers=HeaderChanges(said.headers.set, said.headers.remove),
    )


def _cache_policy(route: RouteSettings) -> rules.CachePolicy | None:
    cache = route.cache
    if cache is None:
        return None
    return rules.CachePolicy(cache.exact or 0.0, cache.sampled, cache.tools, cache.similar or 0.0, cache.verify or "")


def configured(upstream: UpstreamSettings, model: str) -> Model:
    """What config.yaml says of a model: limits and prices."""
    limits, prices = upstream.limits.get(model), upstream.prices.get(model)
    known = {kind: price for kind, price in prices.model_dump().items() if price is not None} if prices else None
    return Model(model, limits.context if limits else None, limits.output if limits else None, prices=known)
