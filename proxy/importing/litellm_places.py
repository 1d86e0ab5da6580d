"""Where LiteLLM calls a deployment: provider, address, key and headers, as one of our upstreams."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from proxy.importing.findings import Findings
from proxy.importing.reading import address, count, credential, header_name
from proxy.importing.variables import Variables, literal, named, plain

PROVIDERS: Final[Mapping[str, tuple[str, str]]] = {
    "openai": ("openai", ""),
    "custom_openai": ("openai", ""),
    "openai_like": ("openai", ""),
    "litellm_proxy": ("openai", ""),
    "llamafile": ("openai", ""),
    "xinference": ("openai", ""),
    "azure": ("azure", ""),
    "azure_ai": ("openai", "called by its OpenAI-compatible API"),
    "anthropic": ("anthropic", ""),
    "openrouter": ("openrouter", ""),
    "ollama": ("ollama", "called by /api/chat; LiteLLM's `ollama/` uses /api/generate"),
    "ollama_chat": ("ollama", ""),
    "groq": ("groq", ""),
    "mistral": ("mistral", ""),
    "deepseek": ("deepseek", ""),
    "together_ai": ("together", ""),
    "fireworks_ai": ("fireworks", ""),
    "xai": ("xai", ""),
    "gemini": ("gemini", "called by Google's OpenAI-compatible API"),
    "hosted_vllm": ("vllm", ""),
    "vllm": ("vllm", ""),
    "lm_studio": ("lmstudio", ""),
}
"""LiteLLM's provider -> ours, and the difference ("": none)."""

KEY_VARIABLES: Final[Mapping[str, str]] = {
    "together": "TOGETHERAI_API_KEY",
    "fireworks": "FIREWORKS_AI_API_KEY",
    "azure": "AZURE_API_KEY",
}
"""Where LiteLLM looks for a key that the file does not set, if that differs from ours."""

ADDRESSED: Final = frozenset({"openai", "vllm", "lmstudio"})  # providers of self-hosted servers
GUESSES: Final = (
    ("claude", "anthropic"),
    *((start, "openai") for start in ("gpt-", "chatgpt-", "o1", "o3", "o4", "text-embedding-", "dall-e", "tts-")),
)
"""Prefixes of model names that have no provider in front."""

NO_KEYS: Final = frozenset({"", "none", "empty", "null"})  # values that people set if a server needs no key

PLACED: Final = frozenset(
    {"model", "custom_llm_provider", "api_base", "base_url", "api_key", "api_version", "organization", "extra_headers",
     "headers", "max_parallel_requests", "input_cost_per_token", "output_cost_per_token", "cache_read_input_token_cost"}
)  # fmt: skip
"""Members of `litellm_params` that this module reads."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where one deployment is called: address, key, headers."""

    findings: Findings
    variables: Variables
    path: str
    provider: str
    name: str  # name of the upstream, if it is a new one

    def settings(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of the upstream in config.yaml."""
        found: dict[str, Any] = {"provider": self.provider}
        self._address(params, found)
        self._key(params, found)
        if version := params.get("api_version"):
            self._version(version, found)
        elif self.provider == "azure":
            self.findings.approximate(f"{self.path}.model", "no api_version: called by Azure's v1 API")
        if headers := self._headers(params):
            found["headers"] = headers
        if most := count(params.get("max_parallel_requests")):
            found["max_in_flight"] = most
            self.findings.approximate(
                f"{self.path}.max_parallel_requests",
                "max_in_flight, counted for the whole upstream; further calls wait up to max_wait",
            )
        return found

    def _address(self, params: Mapping[str, Any], found: dict[str, Any]) -> None:
        key = "api_base" if params.get("api_base") else "base_url"
        base, path = params.get(key), f"{self.path}.{key}"
        if not isinstance(base, str) or not base:
            if self.provider == "azure":
                found["base_url"] = "${AZURE_API_BASE}"
                self.findings.exact(path, "not set: read from the variable AZURE_API_BASE")
            return
        if named(base) is not None:
            found["base_url"] = plain(base)
            self.findings.exact(path, f"read from the variable {named(base)}")
            return
        if not address(base):
            found["base_url"] = self.variables.secret(base, path, f"{self.name}_BASE_URL")
            self.findings.unsupported(path, "not a usable address: the variable needs one without password and query")
            return
        found["base_url"] = literal(base.rstrip("/"))
        if self.provider in ADDRESSED and base.rstrip("/").count("/") == 2:
            self.findings.approximate(path, "base_url; /v1 is added, since it has no path")
        else:
            self.findings.exact(path, "base_url")

    def _key(self, params: Mapping[str, Any], found: dict[str, Any]) -> None:
        given, path = params.get("api_key"), f"{self.path}.api_key"
        if isinstance(given, str) and given.lower() in NO_KEYS:
            found["api_key"] = ""
            self.findings.exact(path, "no key is needed")
        elif key := credential(given):
            found["api_key"] = self.variables.secret(key, path, f"{self.name}_API_KEY")
        elif given is not None:
            self.findings.unsupported(path, "not a key; left out")
        elif usual := KEY_VARIABLES.get(self.provider):
            found["api_key"] = f"${{{usual}}}"
            self.findings.exact(path, f"not set: read from the variable {usual}")
        elif "base_url" in found and self.provider == "openai":
            found["api_key"] = "${OPENAI_API_KEY:-}"
            self.findings.exact(path, "not set: read from the variable OPENAI_API_KEY")

    def _version(self, version: Any, found: dict[str, Any]) -> None:
        path = f"{self.path}.api_version"
        if self.provider in ("azure", "anthropic"):
            found["api_version"] = plain(str(version))
            self.findings.exact(path, "api_version")
        else:
            self.findings.unsupported(path)

    def _headers(self, params: Mapping[str, Any]) -> dict[str, str]:
        headers: dict[str, str] = {}
        organization, at = params.get("organization"), f"{self.path}.organization"
        if isinstance(organization, str) and organization.isascii() and organization.isprintable():
            headers["openai-organization"] = plain(organization)
            self.findings.exact(at, "the header openai-organization")
        elif organization is not None:
            self.findings.unsupported(at)
        for key in ("extra_headers", "headers"):
            given = params.get(key)
            for name, value in given.items() if isinstance(given, dict) else ():
                at = f"{self.path}.{key}.{name}"
                if header_name(name):
                    headers[name.lower()] = self.variables.secret(str(value), at, f"{self.name}_{name}")
                else:
                    self.findings.unsupported(at, "not a valid header name; left out")
        return headers


def split(params: Mapping[str, Any]) -> tuple[str, str]:
    """LiteLLM's provider ("": unknown) and the model name after it."""
    model = str(params["model"])
    if isinstance(provider := params.get("custom_llm_provider"), str):
        return provider, model.removeprefix(f"{provider}/")
    provider, slash, rest = model.partition("/")
    if slash and (provider in PROVIDERS or not params.get("api_base")):
        return provider, rest
    guess = next((guess for start, guess in GUESSES if model.startswith(start)), "")
    return guess or ("openai" if params.get("api_base") else ""), model
