"""Azure OpenAI: OpenAI's dialect behind `api-key`, on the v1 surface or, with an `api_version`, by deployment."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final
from urllib.parse import quote

from proxy.providers.contract import Answer, Model, Order, Request, Target
from proxy.providers.openai_compatible import OpenAICompatible
from proxy.providers.reading import count

_DEPLOYED: Final = frozenset(
    {"chat/completions", "completions", "embeddings", "images/generations", "audio/speech"}
)  # the endpoints that live under a deployment (openai SDK, lib/azure.py)
_USAGE_SINCE: Final = "2024-09-01"  # versions before refuse stream_options with a 400


class Azure(OpenAICompatible):
    """An Azure resource: `https://NAME.openai.azure.com`, with `/openai` or `/openai/v1` behind it or nothing."""

    name = "azure"
    usual_path = "/openai"
    key_variable = "AZURE_OPENAI_API_KEY"

    def __init__(self, options: Mapping[str, Any]) -> None:
        super().__init__()
        version = str(options.get("api_version") or "")
        self._query = f"?api-version={quote(version, safe='')}" if version else ""
        if version and version < _USAGE_SINCE:
            self.usage = "unasked"

    def headers(self, target: Target) -> dict[bytes, bytes]:
        """The key as `api-key`."""
        key = {b"api-key": target.key.encode()} if target.key else {}
        return key | dict(target.headers)

    def request(self, order: Order) -> Request:
        """The order unchanged; with an api_version, sent to the deployment named like the model."""
        request = super().request(order)
        place = self._surface(order.target)
        if self._by_deployment(order.target) and order.endpoint in _DEPLOYED:
            place = f"/deployments/{quote(order.target.model, safe='')}"
        return replace(request, path=place + request.path + self._query)

    def catalog(self, target: Target) -> Generator[Request, Answer, Sequence[Model] | None]:
        """On the v1 surface: the base models and fine-tuned models of the resource.

        By deployment there is no list: deployments have names of their own, which a key cannot list. The request is
        made all the same, as a health check.
        """
        models = yield from super().catalog(target)
        return None if self._by_deployment(target) else models

    def listed(self, answer: Answer) -> list[Any]:
        """The entries that can be called: `capabilities.inference` is false for models that can only be fine-tuned."""
        return [entry for entry in super().listed(answer) if _answers(entry)]

    def model(self, entry: Mapping[str, Any]) -> Model:
        """One entry; Azure names the time `created_at` (REST reference, Models - List, 2024-10-21)."""
        model = super().model(entry)
        return replace(model, created=model.created or count(entry.get("created_at")))

    def models_path(self, target: Target) -> str:
        """The path of its list of models."""
        return f"{self._surface(target)}/models{self._query}"

    def _by_deployment(self, target: Target) -> bool:
        return bool(self._query) and not target.base.endswith("/v1")

    def _surface(self, target: Target) -> str:
        """The path prefix of the v1 surface, unless the address has it or a version is set."""
        return "" if self._query or target.base.endswith("/v1") else "/v1"


def _answers(entry: Any) -> bool:
    capabilities = entry.get("capabilities") if isinstance(entry, dict) else None
    return not isinstance(capabilities, dict) or capabilities.get("inference") is not False
