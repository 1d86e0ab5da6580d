"""Converts LiteLLM's model groups, with fallbacks and aliases, to our routes."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import reduce
from math import gcd
from typing import Any

from proxy.importing.findings import Findings
from proxy.importing.litellm_deployments import Deployment
from proxy.importing.variables import literal


@dataclass(slots=True)
class Groups:
    """Deployments by the name that clients use, and the fallbacks of each group."""

    findings: Findings
    deployments: list[Deployment]
    fallbacks: dict[str, list[str]] = field(default_factory=dict)
    larger: dict[str, list[str]] = field(default_factory=dict)  # context_window_fallbacks
    usual: list[str] = field(default_factory=list)  # default_fallbacks: for groups without fallbacks of their own
    wildcard: list[str] = field(default_factory=list)  # fallbacks of `*`: the same if there are no default_fallbacks
    aliases: dict[str, str] = field(default_factory=dict)

    def of(self, group: str) -> list[Deployment]:
        """The deployments of one group."""
        return [each for each in self.deployments if each.group == group and not each.prefix]

    def routes(self, cached: bool) -> tuple[list[dict[str, Any]], str | None]:
        """The routes, and the default upstream if the file has a wildcard for all names; that one does not cache."""
        routes, default = [], None
        for key in dict.fromkeys((each.group, each.prefix) for each in self.deployments):
            members = [each for each in self.deployments if (each.group, each.prefix) == key]
            if key == ("", True) and self._is_plain(members) and not cached:
                default = members[0].upstream
                self.findings.exact(members[0].path, f"default_upstream: {default}")
            else:
                routes.append(self._route(members))
        for alias, group in self.aliases.items():
            if members := self.of(group):
                routes.append(self._route(members) | {"model": literal(alias)})
        return routes, default

    def _is_plain(self, members: list[Deployment]) -> bool:
        only = members[0]
        own_settings = only.defaults or only.remove or only.timeouts or only.attempts is not None
        return len(members) == 1 and only.model == "{rest}" and not own_settings and not any(self._following(only))

    def _route(self, members: list[Deployment]) -> dict[str, Any]:
        first = members[0]
        route: dict[str, Any] = {"prefix" if first.prefix else "model": literal(first.group)}
        route["to"] = self._targets(members)
        route |= self._policies(members)
        return route

    def _targets(self, members: list[Deployment]) -> Any:
        """In order if there are fallbacks, else by weight."""
        own = list(dict.fromkeys(each.target for each in members))
        following = [target for target in self._following(members[0]) if target not in own]
        if len(own) == 1 or following:
            if len(own) > 1:
                self.findings.approximate(
                    members[0].path, f"{len(own)} deployments and fallbacks: asked in order; the load is not split"
                )
            self._shares_unused(members)
            return own[0] if not following and len(own) == 1 else [*own, *following]
        weights = self._weights(members)
        targets: dict[str, dict[str, Any]] = {}
        for each, weight in zip(members, weights, strict=True):
            known = targets.setdefault(each.target, {"upstream": each.upstream, "model": each.model, "weight": 0})
            known["weight"] += weight
        return list(targets.values())

    def _following(self, first: Deployment) -> Iterator[str]:
        """The targets of the fallbacks, each once."""
        group = first.group + ("*" if first.prefix else "")
        named = [*self.fallbacks.get(group, self.usual or self.wildcard), *self.larger.get(group, ())]
        for name in dict.fromkeys(named):
            for deployment in self.of(self.aliases.get(name, name)) if name != group else ():
                yield deployment.target

    def _weights(self, members: list[Deployment]) -> list[int]:
        for key in ("weight", "rpm", "tpm"):
            found = [each.shares.get(key, 0) for each in members]
            if all(found):
                for each in members:
                    self._note_share(each, key)
                step = reduce(gcd, found)
                return [share // step for share in found]
        self._shares_unused(members)
        return [1] * len(members)

    def _note_share(self, each: Deployment, used: str) -> None:
        for key in each.shares:
            at = f"{each.path}.litellm_params.{key}"
            if key != used:
                self.findings.unsupported(
                    at, f"the weight is made from {used}; Sluice has no rate limit per deployment"
                )
            elif key == "weight":
                self.findings.exact(at, "weight")
            else:
                self.findings.approximate(at, "used as the weight; Sluice has no rate limit per deployment")

    def _shares_unused(self, members: list[Deployment]) -> None:
        for each in members:
            for key in each.shares:
                at = f"{each.path}.litellm_params.{key}"
                if key == "weight":
                    self.findings.approximate(
                        at, "not used: the route is not split, or not every deployment of it has a weight"
                    )
                else:
                    self.findings.unsupported(at, "Sluice has no rate limit per deployment")

    def _policies(self, members: list[Deployment]) -> dict[str, Any]:
        """Policies that all members agree on; else those of the first one, with a finding."""
        for what in ("timeouts", "attempts", "defaults", "remove"):
            if any(getattr(each, what) != getattr(members[0], what) for each in members):
                self.findings.approximate(
                    members[0].path,
                    f"the deployments of this group differ in {what}: those of the first are used for all",
                )
        first = members[0]
        if (first.defaults or first.remove) and any(self._following(first)):
            self.findings.approximate(first.path, "its parameters apply to the fallbacks of its route too")
        request: dict[str, Any] = {}
        if first.defaults:
            request["default"] = {key.replace(".", "\\."): value for key, value in first.defaults.items()}
        if first.remove:
            request["remove"] = list(dict.fromkeys(first.remove))
        found: dict[str, Any] = {"timeouts": first.timeouts} if first.timeouts else {}
        if first.attempts is not None:
            found["retry"] = {"attempts": first.attempts}
        return found | ({"request": request} if request else {})


def routing_tests(routes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A routing test for each route, so that the file verifies itself."""
    tests = []
    for route in routes:
        name = route["model"] if "model" in route else f"{route['prefix']}example"
        rest = name if "model" in route else "example"
        to = route["to"] if isinstance(route["to"], list) else [route["to"]]
        expect = [each if isinstance(each, str) else f"{each['upstream']}/{each['model']}" for each in to]
        tests.append({"model": name, "expect": [target.replace("{rest}", rest) for target in expect]})
    return tests


def names_of(value: Any) -> dict[str, list[str]]:
    """Parses LiteLLM's `[{"group": ["other", …]}, …]`; anything else is ignored.

    Of several entries for a group the first counts, of several for `*` the last, as in LiteLLM's Router.
    """
    found: dict[str, list[str]] = {}
    for group, others in entries(value):
        if group == "*" or group not in found:
            names = [others] if isinstance(others, str) else others if isinstance(others, list) else []
            found[group] = [name for name in names if isinstance(name, str)]
    return found


def entries(value: Any) -> Iterator[tuple[str, Any]]:
    """The entries of LiteLLM's `[{"group": ["other", …]}, …]` by group, which may repeat."""
    for entry in value if isinstance(value, list) else [value]:
        for group, others in entry.items() if isinstance(entry, dict) else ():
            yield str(group), others
