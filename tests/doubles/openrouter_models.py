"""OpenRouter's catalogue: prices as strings per single token, limits that may be null."""

from dataclasses import dataclass
from typing import Any

SUPPORTED = ("temperature", "top_p", "max_tokens", "stop", "seed", "tools", "tool_choice", "response_format")


@dataclass(frozen=True, slots=True)
class OpenRouterModel:
    """One entry; `prompt` and `completion` are USD per token, as the decimal strings that are sent."""

    id: str
    context: int | None = 128_000
    output: int | None = 16_384
    prompt: str = "0.0000025"
    completion: str = "0.00001"
    inputs: tuple[str, ...] = ("text",)
    supported: tuple[str, ...] = SUPPORTED

    def architecture(self) -> dict[str, Any]:
        modality = "+".join(self.inputs) + "->text"
        kinds = {"input_modalities": list(self.inputs), "output_modalities": ["text"]}
        return {"modality": modality, **kinds, "tokenizer": "GPT", "instruct_type": None}

    def pricing(self) -> dict[str, Any]:
        more = {"request": "0", "image": "0", "web_search": "0", "internal_reasoning": "0"}
        return {"prompt": self.prompt, "completion": self.completion, **more, "input_cache_read": "0.00000125"}

    def listed(self) -> dict[str, Any]:
        """Its item in GET /models."""
        limits = {"context_length": self.context, "max_completion_tokens": self.output, "is_moderated": False}
        absent = ("per_request_limits", "default_parameters", "hugging_face_id", "knowledge_cutoff", "expiration_date")
        return {
            "id": self.id,
            "canonical_slug": self.id,
            "name": self.id.rpartition("/")[2],
            "created": 1_692_901_234,
            "description": "A model.",
            "context_length": self.context,
            "architecture": self.architecture(),
            "pricing": self.pricing(),
            "top_provider": limits,
            "supported_parameters": list(self.supported),
            "links": {"details": f"/api/v1/models/{self.id}/endpoints"},
            **dict.fromkeys(absent),
        }

    def endpoints(self) -> dict[str, Any]:
        """The answer of GET /models/{author}/{slug}/endpoints."""
        one = {
            "name": f"Double | {self.id}",
            "model_id": self.id,
            "provider_name": "Double",
            "tag": "double",
            "context_length": self.context,
            "max_completion_tokens": self.output,
            "max_prompt_tokens": None,
            "quantization": None,
            "pricing": self.pricing(),
            "supported_parameters": list(self.supported),
            "status": 0,
            "uptime_last_30m": 99.9,
        }
        return {"id": self.id, "name": self.id, "created": 1_692_901_234, "description": "", "endpoints": [one]}


MODELS = (
    OpenRouterModel("openai/gpt-4o", inputs=("text", "image", "file")),
    OpenRouterModel("anthropic/claude-sonnet-4.5", 1_000_000, 64_000, "0.000003", "0.000015", ("text", "image")),
    OpenRouterModel("meta-llama/llama-3.3-70b-instruct", 131_072, None, "0.00000012", "0.0000003"),
    OpenRouterModel("meta-llama/llama-3.3-70b-instruct:free", 65_536, None, "0", "0"),
    OpenRouterModel("openrouter/auto", 2_000_000, None, "-1", "-1"),
    OpenRouterModel("some/unknown-limits", None, None, supported=()),
)


def many(number: int) -> tuple[OpenRouterModel, ...]:
    """The usual ones, and so many more as fill a catalogue."""
    return (*MODELS, *(OpenRouterModel(f"vendor-{at % 40}/model-{at}") for at in range(number - len(MODELS))))
