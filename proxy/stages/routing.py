"""The routing table: from a model name to a route and its targets; nothing else decides where a call goes."""

import hashlib
import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from proxy.call import Call
from proxy.errors import SluiceError
from proxy.naming import suggestion
from proxy.policies.routes import Choice, Route
from proxy.providers.contract import Target

_REMEMBERED = 4096  # model names whose choice is cached


@dataclass(slots=True)
class Router:
    """Resolves model names: exact name, then longest prefix, then the default upstream.

    One function for every caller.
    """

    routes: Sequence[Route]
    default: Callable[[], Route | None]  # called each time: an operator may switch it
    names: Callable[[], Iterable[str]]  # models to suggest where nothing matches
    defaults: Sequence[Route] = ()  # all that `default` may give
    lost: Mapping[str, str] = field(default_factory=dict)  # personas whose upstream is gone
    _exact: Mapping[str, Route] = field(init=False)
    _prefixes: Mapping[str, Route] = field(init=False)
    _lengths: tuple[int, ...] = field(init=False)
    _chosen: dict[str, Choice] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._exact = {route.match: route for route in self.routes if route.exact}
        self._prefixes = {route.match: route for route in self.routes if not route.exact}
        self._lengths = tuple(sorted({len(match) for match in self._prefixes}, reverse=True))

    def choose(self, call: Call) -> Choice:
        """The route and targets of a call; weighted targets are drawn by its session. Raises model_not_found."""
        choice = self.resolve(call.model)
        if choice.route.weighted:
            return replace(choice, targets=weighted_order(choice.targets, call.session))
        return choice

    def targets_of(self, model: str) -> tuple[Target, ...]:
        """The targets of a name; none where no route matches."""
        try:
            return self.resolve(model).targets
        except SluiceError:
            return ()

    def possible_targets(self, model: str) -> Iterator[Target]:
        """The targets of a name whatever the default upstream is, now or later."""
        found = self.matching(model)
        if found and not _is_default(found[0]):
            yield from self.targets_of(model)
        elif not model.startswith("persona/"):
            yield from (_filled(target, model, model) for route in self.defaults for target in route.to)

    def resolve(self, model: str) -> Choice:
        """The route and targets of a name, targets as written. Raises model_not_found."""
        choice = self._chosen.get(model)
        if choice is None:
            choice = self._resolve(model)
            if not _is_default(choice.route):  # which an operator may switch
                if len(self._chosen) >= _REMEMBERED:
                    self._chosen.clear()
                self._chosen[model] = choice
        return choice

    def put(self, route: Route) -> None:
        """Adds or replaces an exact route at run time."""
        self._exact = {**self._exact, route.match: route}
        self._chosen.clear()

    def drop(self, name: str) -> None:
        """Removes an exact route."""
        self._exact = {match: route for match, route in self._exact.items() if match != name}
        self._chosen.clear()

    def exact_routes(self) -> list[Route]:
        """The routes that match one name each: aliases and personas."""
        return list(self._exact.values())

    def matching(self, model: str) -> list[Route]:
        """Every route that matches the name, the winner first."""
        found = [self._exact[model]] if model in self._exact else []
        lengths = (length for length in self._lengths if length <= len(model))
        found += [route for length in lengths if (route := self._prefixes.get(model[:length]))]
        if not model.startswith("persona/") and (default := self.default()):
            found.append(default)  # an unknown persona does not go to the default upstream
        return found

    def _resolve(self, model: str) -> Choice:
        routes = self.matching(model)
        if not routes and (upstream := self.lost.get(model)):
            message = f"The persona {model[8:]} cannot be called: its upstream {upstream} is gone from config.yaml."
            raise SluiceError("model_not_found", message, param="model")
        if not routes and model.startswith("persona/"):
            personas = [name[8:] for name in self.names() if name.startswith("persona/")]
            hint = suggestion(model[8:], personas)
            raise SluiceError("model_not_found", f"There is no persona {model[8:]!r}.{hint}", param="model")
        if not routes:
            raise SluiceError(
                "model_not_found",
                f"No route matches the model {model!r}, and there is no default upstream."
                + suggestion(model, self.names()),
                param="model",
            )
        route = routes[0]
        rest = model if route.exact else model[len(route.match) :]
        targets = tuple(_filled(target, model, rest) for target in route.to)
        if not rest and not all(target.model for target in targets):
            raise SluiceError("model_not_found", f"{model!r} names an upstream but no model.", param="model")
        return Choice(route, targets)


def _is_default(route: Route) -> bool:
    """Whether this is the route of the default upstream, which matches every name."""
    return not route.match and not route.written


def _filled(template: Target, model: str, rest: str) -> Target:
    if "{" not in template.model:
        return template
    # In one pass: braces in a model name are not expanded.
    parts = template.model.split("{model}")
    return replace(template, model=model.join(part.replace("{rest}", rest) for part in parts))


def weighted_order(targets: Sequence[Target], session: str | None) -> tuple[Target, ...]:
    """The targets in an order drawn by weight: at random, or fixed for one session (rendezvous hashing)."""

    def score(target: Target) -> float:
        if session is None:
            share = random.random()
        else:
            seed = f"{session}\0{target.upstream}\0{target.model}".encode()
            share = int.from_bytes(hashlib.blake2b(seed, digest_size=8).digest(), "big") / 2**64
        return -math.log(share or 1e-18) / target.weight if target.weight else math.inf

    return tuple(sorted(targets, key=score))


def routing_mismatch(router: Router, model: str, expect: Sequence[str]) -> str:
    """Why a routing test fails; "": the name leads to the expected targets.

    One expected target is the one asked first; several are all of them, in order.
    """
    try:
        targets = [f"{target.upstream}/{target.model}" for target in router.resolve(model).targets]
    except SluiceError as error:
        return f"{model} should lead to {', '.join(expect)}, but: {error.message}"
    if targets == list(expect) or targets[:1] == list(expect):
        return ""
    return f"{model} should lead to {', '.join(expect)}, but leads to {', '.join(targets)}"
