"""The models an Ollama double has, as /api/tags, /api/show and /api/ps tell of them."""

import hashlib
from dataclasses import dataclass
from typing import Any

MODIFIED = "2026-08-04T08:52:19.385406455Z"
MODIFIED_SECONDS = 1_785_833_539
EXPIRES = "2318-11-14T00:00:00Z"


@dataclass(frozen=True, slots=True)
class OllamaModel:
    """One pulled model; `context` is the model's maximum, not the loaded window."""

    name: str  # with its tag
    capabilities: tuple[str, ...] = ("completion", "tools")
    context: int = 131_072  # tokens
    family: str = "llama"
    num_ctx: int | None = None  # of its Modelfile

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.name.encode()).hexdigest()

    @property
    def details(self) -> dict[str, Any]:
        return {
            "parent_model": "",
            "format": "gguf",
            "family": self.family,
            "families": [self.family],
            "parameter_size": "3.2B",
            "quantization_level": "Q4_K_M",
        }

    def tag(self) -> dict[str, Any]:
        """Its item in /api/tags."""
        return {
            "name": self.name,
            "model": self.name,
            "modified_at": MODIFIED,
            "size": 2_019_393_189,
            "digest": self.digest,
            "details": self.details,
            "capabilities": list(self.capabilities),
        }

    def shown(self) -> dict[str, Any]:
        """The answer of /api/show."""
        stop = 'stop                           "<|eot_id|>"'
        window = f"num_ctx                        {self.num_ctx}\n" if self.num_ctx else ""
        return {
            "license": "LLAMA 3.2 COMMUNITY LICENSE AGREEMENT",
            "modelfile": f"FROM {self.name}",
            "parameters": window + stop,
            "template": "{{ .Prompt }}",
            "details": self.details,
            "model_info": {
                "general.architecture": self.family,
                "general.parameter_count": 3_212_749_888,
                f"{self.family}.context_length": self.context,
                f"{self.family}.embedding_length": 3072,
                "tokenizer.ggml.tokens": None,
            },
            "capabilities": list(self.capabilities),
            "modified_at": MODIFIED,
        }

    def loaded(self, num_ctx: int) -> dict[str, Any]:
        """Its item in /api/ps; here `context_length` is the loaded window."""
        size = 3_500_000_000
        item = {"name": self.name, "model": self.name, "size": size, "digest": self.digest, "details": self.details}
        return {**item, "expires_at": EXPIRES, "size_vram": size, "context_length": num_ctx}


MODELS = (
    OllamaModel("llama3.2:latest"),
    OllamaModel("qwen3:8b", ("completion", "tools", "thinking"), 40_960, "qwen3"),
    OllamaModel("gemma3:4b", ("completion", "vision"), 131_072, "gemma3", num_ctx=8192),
    OllamaModel("nomic-embed-text:latest", ("embedding",), 2048, "nomic-bert"),
)
