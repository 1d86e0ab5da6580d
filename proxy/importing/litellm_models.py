"""Converts LiteLLM's `model_list`: each deployment to a target, and the upstreams that they share."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from proxy.importing.findings import Findings
from proxy.importing.litellm_deployments import Deployment, Parameters
from proxy.importing.litellm_places import PROVIDERS, Place, split
from proxy.importing.reading import count, names, number
from proxy.importing.variables import Variables, literal
from proxy.shapes import object_of

IDLE: Final = frozenset({"id", "mode", "db_model", "created_at", "updated_at", "created_by", "updated_by", "team_id"})
"""Members of `model_info` that only label a deployment."""


COSTS: Final = {
    "input_cost_per_token": "input",
    "output_cost_per_token": "output",
    "cache_read_input_token_cost": "cached",
}
SIZES: Final = {"max_output_tokens": "output", "max_tokens": "output", "max_input_tokens": "context"}


@dataclass(slots=True)
class Models:
    """Converts deployments; equal addresses become one upstream."""

    findings: Findings
    variables: Variables
    upstreams: dict[str, dict[str, Any]] = field(default_factory=dict)
    deployments: list[Deployment] = field(default_factory=list)
    _places: dict[str, str] = field(default_factory=dict, repr=False)  # an upstream's identity -> its name

    def read(self, entries: list[Any]) -> None:
        """Every entry of `model_list`."""
        for index, entry in enumerate(entries):
            self._entry(f"model_list[{index}]", entry)

    def _entry(self, path: str, entry: Any) -> None:
        params = entry.get("litellm_params") if isinstance(entry, dict) else None
        name = entry.get("model_name") if isinstance(entry, dict) else None
        if not isinstance(params, dict) or not isinstance(params.get("model"), str) or not names(name):
            self.findings.unsupported(path, "needs model_name and litellm_params.model; left out")
            return
        provider, model = split(params)
        if provider not in PROVIDERS:
            reason = f"the provider {provider} is not supported" if provider else "names no known provider"
            self.findings.unsupported(f"{path}.litellm_params.model", f"{reason}; this deployment is left out")
            return
        ours, differs = PROVIDERS[provider]
        template = self._template(path, name, model)
        if template is None:
            return
        if differs:
            self.findings.approximate(f"{path}.litellm_params.model", differs)
        else:
            self.findings.exact(f"{path}.litellm_params.model", f"provider {ours}")
        found = Deployment(path, name.removesuffix("*"), "", template, name.endswith("*"))
        place = Place(self.findings, self.variables, f"{path}.litellm_params", ours, self._free_name(ours))
        settings = place.settings(params)
        found.upstream = self._upstream(ours, settings)
        self._catalogue(found)
        Parameters(self.findings, found).read(params)
        self._info(found, entry.get("model_info"), params)
        for key in entry.keys() - {"model_name", "litellm_params", "model_info"}:
            self.findings.unsupported(f"{path}.{key}")
        self.deployments.append(found)

    def _template(self, path: str, name: str, model: str) -> str | None:
        """The model name as in `to`; None: it cannot be expressed."""
        if not model:
            self.findings.unsupported(f"{path}.litellm_params.model", "names no model; this deployment is left out")
            return None
        asked, there = name.removesuffix("*"), model.removesuffix("*")
        wild = name.endswith("*")
        if "*" in asked + there or set("{}") & set(there) or (model.endswith("*") and not wild):
            self.findings.unsupported(
                f"{path}.model_name", "only a * at the end has a counterpart in Sluice; this deployment is left out"
            )
            return None
        self.findings.exact(f"{path}.model_name", f"a route with {'this prefix' if wild else 'this model name'}")
        return f"{literal(there)}{{rest}}" if wild and model.endswith("*") else literal(there)

    def _free_name(self, ours: str) -> str:
        name, number = ours, 2
        while name in self.upstreams:
            name, number = f"{ours}-{number}", number + 1
        return name

    def _upstream(self, ours: str, settings: dict[str, Any]) -> str:
        identity = repr(settings)
        name = self._places.get(identity)
        if name is None:
            name = self._places[identity] = self._free_name(ours)
            self.upstreams[name] = {**settings, "models": []}
        return name

    def _catalogue(self, found: Deployment) -> None:
        """A fixed catalogue of the models in the file, unless it has a wildcard."""
        upstream = self.upstreams[found.upstream]
        if found.model.endswith("{rest}"):
            upstream.pop("models", None)
        elif "models" in upstream and found.model not in upstream["models"]:
            upstream["models"].append(found.model)

    def _info(self, found: Deployment, info: Any, params: Mapping[str, Any]) -> None:
        """`model_info`, and prices, which may be in either place."""
        limits: dict[str, int] = {}
        prices: dict[str, float] = {}
        for place, members in (("litellm_params", params), ("model_info", object_of(info))):
            for key, value in members.items():
                at = f"{found.path}.{place}.{key}"
                if key in COSTS and (cost := number(value)) is not None:
                    prices[COSTS[key]] = round(cost * 1_000_000, 9)
                    self.findings.exact(at, "in USD per million tokens")
                elif place == "litellm_params":
                    continue
                elif key in SIZES and (size := count(value)):
                    limits.setdefault(SIZES[key], size)
                    self._note_limit(at, key)
                elif key in IDLE or str(key).startswith("supports_"):
                    self.findings.exact(at, "only describes the deployment; not needed in Sluice")
                else:
                    self.findings.unsupported(at)
        for key, values in (("limits", limits), ("prices", prices)):
            if values and not found.model.endswith("{rest}"):
                self.upstreams[found.upstream].setdefault(key, {})[found.model] = values

    def _note_limit(self, at: str, key: str) -> None:
        if key == "max_input_tokens":
            self.findings.approximate(at, "used as the whole context window, prompt and answer together")
        else:
            self.findings.exact(at, "largest answer in tokens")
