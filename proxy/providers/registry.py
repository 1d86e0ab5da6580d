"""All providers by their name in config.yaml."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from proxy.providers.anthropic import Anthropic
from proxy.providers.azure import Azure
from proxy.providers.contract import Provider
from proxy.providers.llamacpp import LlamaCpp
from proxy.providers.ollama import Ollama
from proxy.providers.openrouter import OpenRouter
from proxy.providers.rows import ROWS, of_row
from proxy.providers.runpod import runpod
from proxy.settings.addresses import ProviderFacts

Options = Mapping[str, Any]
"""Settings of an upstream that only its provider reads: `api_version`, `endpoint_id`, …"""


def _alike(make: Callable[[], Provider]) -> Callable[[Options], Provider]:
    """For a provider without options."""
    return lambda options: make()


PROVIDERS: Final[Mapping[str, Callable[[Options], Provider]]] = {
    **{row.name: _alike(partial(of_row, row)) for row in ROWS},
    "anthropic": _alike(Anthropic),
    "azure": Azure,
    "llamacpp": _alike(LlamaCpp),
    "ollama": _alike(Ollama),
    "openrouter": OpenRouter,
    "runpod": runpod,
}


def provider(name: str, options: Options) -> Provider:
    """The provider of this name, for one upstream. Raises KeyError for an unknown name."""
    return PROVIDERS[name](options)


def _facts(of: Provider) -> ProviderFacts:
    return ProviderFacts(of.base_url, of.usual_path, of.key_variable, of.key_required)


FACTS: Final[Mapping[str, ProviderFacts]] = {name: _facts(make({})) for name, make in PROVIDERS.items()}
