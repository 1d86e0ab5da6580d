"""Providers as settings know them, and files to load."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from proxy.settings import ConfigError, ProviderFacts, Settings, load

PROVIDERS: Final[Mapping[str, ProviderFacts]] = {
    "anthropic": ProviderFacts("https://api.anthropic.com/v1", "/v1", "ANTHROPIC_API_KEY", True),
    "llamacpp": ProviderFacts("", "/v1", "", False),
    "ollama": ProviderFacts("http://127.0.0.1:11434", "", "OLLAMA_API_KEY", False),
    "openai": ProviderFacts("https://api.openai.com/v1", "/v1", "OPENAI_API_KEY", False),
    "openrouter": ProviderFacts("https://openrouter.ai/api/v1", "/api/v1", "OPENROUTER_API_KEY", True),
    "runpod": ProviderFacts("https://api.runpod.ai/v2", "/v2", "RUNPOD_API_KEY", True),
}
SMALL: Final = "upstreams:\n  o: {provider: ollama}\n"


def loaded(folder: Path, text: str, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of a config.yaml with this text."""
    (folder / "config.yaml").write_text(text, "utf-8")
    return load(folder / "config.yaml", environ or {}, PROVIDERS)


def problems(folder: Path, text: str, environ: Mapping[str, str] | None = None) -> list[str]:
    """What is wrong with such a file, as `line:column: path: message`."""
    try:
        loaded(folder, text, environ)
    except ConfigError as error:
        return [line.removeprefix(f"{error.file}:") for line in str(error).split("\n")]
    return []
