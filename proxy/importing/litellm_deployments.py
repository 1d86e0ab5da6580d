"""How LiteLLM calls a deployment: parameters, timeouts and weights, for our route."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from proxy.importing.findings import Findings
from proxy.importing.litellm_places import PLACED
from proxy.importing.reading import count, number, removable, seconds, writable
from proxy.importing.variables import plain
from proxy.units import written_duration

DEFAULTS: Final = frozenset(
    "temperature top_p top_k min_p max_tokens max_completion_tokens stop seed n user frequency_penalty "
    "presence_penalty repetition_penalty logit_bias logprobs top_logprobs response_format tool_choice "
    "parallel_tool_calls reasoning_effort verbosity service_tier thinking dimensions encoding_format provider "
    "transforms models keep_alive num_ctx".split()
)
"""Parameters that LiteLLM sends if the client does not set them."""

DROPPING: Final = (
    "always on: a parameter that the provider does not support is dropped and listed in x-sluice-changes, or a 400 if "
    "the answer would mean something else without it"
)


@dataclass(slots=True)
class Deployment:
    """One entry of `model_list`, with the settings for our route."""

    path: str  # "model_list[0]"
    group: str  # model_name, as clients ask
    upstream: str
    model: str  # template of the model name at the upstream
    prefix: bool = False  # model_name ends in `*`
    shares: dict[str, int] = field(default_factory=dict)  # weight, rpm, tpm
    timeouts: dict[str, str] = field(default_factory=dict)
    attempts: int | None = None
    defaults: dict[str, Any] = field(default_factory=dict)  # request.default
    remove: list[str] = field(default_factory=list)  # request.remove

    @property
    def target(self) -> str:
        """`upstream/model`, as in `to`."""
        return f"{self.upstream}/{self.model}"


@dataclass(frozen=True, slots=True)
class Parameters:
    """The settings of one deployment for our route."""

    findings: Findings
    found: Deployment

    def read(self, params: Mapping[str, Any]) -> None:
        """Every member of `litellm_params` that `Place` does not read."""
        for key, value in params.items():
            if key not in PLACED:
                self._one(key, value, f"{self.found.path}.litellm_params.{key}")

    def _one(self, key: str, value: Any, at: str) -> None:
        if key in ("weight", "rpm", "tpm") and (share := number(value)):
            self.found.shares[key] = max(1, round(share))  # reported with the whole group
        elif key in ("timeout", "stream_timeout") and (wait := seconds(value)):
            self._timeout(key, wait, at)
        elif key in ("num_retries", "max_retries") and (retries := count(value)) is not None:
            self.found.attempts = min(100, retries + 1)
            self.findings.approximate(
                at, "retry.attempts of its route: one more, since the first attempt counts; per target"
            )
        elif key in DEFAULTS and writable(value):
            self.found.defaults[key] = variables_in(value)
            self.findings.exact(at, "request.default: sent if the client does not set it")
        elif key == "additional_drop_params" and isinstance(value, list):
            self._removed(value, at)
        elif key == "drop_params":
            self.findings.approximate(at, DROPPING)
        else:
            self.findings.unsupported(at)

    def _removed(self, names: list[Any], at: str) -> None:
        for index, name in enumerate(names):
            if path := removable(name):
                self.found.remove.append(path)
                self.findings.exact(at, "request.remove")
            else:
                self.findings.unsupported(
                    f"{at}[{index}]", "not a path that Sluice can remove ([*] has no counterpart)"
                )

    def _timeout(self, key: str, wait: float, at: str) -> None:
        duration = written_duration(wait)
        if key == "stream_timeout":
            self.found.timeouts["first_token"] = duration
            self.findings.approximate(at, "timeouts.first_token: the time until the first token of a stream")
        else:
            self.found.timeouts = {"first_token": duration, "whole": duration} | self.found.timeouts
            self.findings.approximate(
                at, "timeouts.whole and first_token: for a whole answer, and until the first token of a stream"
            )


def variables_in(value: Any) -> Any:
    """A JSON value with its strings in the notation of config.yaml."""
    if isinstance(value, dict):
        return {key: variables_in(item) for key, item in value.items()}
    if isinstance(value, list):
        return [variables_in(item) for item in value]
    return plain(value) if isinstance(value, str) else value
