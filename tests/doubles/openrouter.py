"""OpenRouter's API as openrouter.ai speaks it (its OpenAPI file and docs)."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tests.doubles.openai import CHAT_FIELDS, OpenAIDouble
from tests.doubles.openai_chat import CREATED, chat_events, chat_whole
from tests.doubles.openrouter_models import MODELS, OpenRouterModel
from tests.doubles.server import Double
from tests.doubles.wire import Answer, Headers, Received, json_answer, sse, stream_answer
from tests.doubles.words import Said, pieces, prompt_tokens

PROCESSING = b": OPENROUTER PROCESSING\n\n"
COST = 0.000_002  # USD for each token, whatever the model
ERROR_TYPES = {
    400: "invalid_request",
    401: "authentication",
    402: "payment_required",
    403: "permission_denied",
    404: "not_found",
    408: "timeout",
    413: "payload_too_large",
    422: "unprocessable",
    429: "rate_limit_exceeded",
    500: "server",
    502: "provider_unavailable",
    503: "provider_overloaded",
    524: "timeout",
    529: "provider_overloaded",
}
PROVIDER_FIELDS = frozenset(
    "order only ignore allow_fallbacks require_parameters data_collection zdr enforce_distillable_text quantizations "
    "sort max_price preferred_min_throughput preferred_max_latency".split()
)


class OpenRouterDouble(OpenAIDouble):
    """`comments`: after how many events a comment comes. `management`: the key may read credits."""

    name = "openrouter"
    base_path = "/api/v1"
    prefill = True
    comments = 7
    management = False
    fields = CHAT_FIELDS  # others are let through: what a provider does not support it ignores

    def __init__(
        self, *, key: str = "sk-or-v1-double-key", models: Sequence[OpenRouterModel] = MODELS, port: int = 0
    ) -> None:
        super().__init__(key=key, models=[model.id for model in models], port=port)
        self.catalogue = {model.id: model for model in models}
        self.generations: dict[str, dict[str, Any]] = {}
        self.routes["/chat/completions"] = self.chat

    # the HTTP side

    def refused(self, request: Received) -> Answer | None:
        if request.method == "GET" and request.route == "/api/v1/models":
            return None
        key = self.key_of(request)
        if not key:
            return self.failure(401, "Missing Authentication header")
        return None if key == self.key else self.failure(401, "User not found.")

    def routed(self, request: Received) -> Answer:
        path = request.route.removeprefix(self.base_path)
        if request.method == "GET" and (found := self.read(request, path)):
            return found
        return super().routed(request)

    def read(self, request: Received, path: str) -> Answer | None:
        """What a GET of this path gets, if it is one of OpenRouter's own."""
        if path in ("/models", "/models/user"):
            return json_answer({"data": [model.listed() for model in self.catalogue.values()]})
        if path == "/models/count":
            return json_answer({"data": {"count": len(self.catalogue)}})
        if path.startswith("/models/") and path.endswith("/endpoints"):
            model = self.catalogue.get(path.removeprefix("/models/").removesuffix("/endpoints"))
            return json_answer({"data": model.endpoints()}) if model else self.failure(404, "Model not found")
        if path == "/key":
            return json_answer({"data": self.key_data()})
        if path == "/credits":
            refused = self.failure(403, "Only management keys can fetch credits for an account")
            return json_answer({"data": {"total_credits": 10.0, "total_usage": 1.5}}) if self.management else refused
        if path == "/generation":
            told = self.generations.get(request.path.partition("id=")[2])
            return json_answer({"data": told}) if told else self.failure(404, "Generation not found")
        return None

    def key_data(self) -> dict[str, Any]:
        """The answer of GET /key."""
        spent = {"usage": 1.5, "usage_daily": 0.5, "usage_weekly": 1.0, "usage_monthly": 1.5}
        limits = {"limit": None, "limit_remaining": None, "limit_reset": None, "expires_at": None}
        flags = {"is_free_tier": False, "is_management_key": self.management}
        return {"label": "sk-or-v1-dou...key", **limits, **spent, **flags, "rate_limit": {"requests": -1}}

    def bad_body(self, request: Received) -> Answer | None:
        try:
            body = request.json
        except ValueError:
            return self.failure(400, "Invalid JSON body")
        names = [name for name in (body.get("model"), *(body.get("models") or ())) if name]
        if not names:
            return self.failure(400, "No models provided")
        bad = next((name for name in names if not self.exists(name)), None)
        return self.unknown_model(bad) if bad else None

    def exists(self, name: str) -> bool:
        """Whether there is this model, under its own id or with a suffix."""
        return name in self.catalogue or name.partition(":")[0] in self.catalogue or not self.strict

    def dressed(self, answer: Answer, request: Received) -> Answer:
        """`x-generation-id` on every model call; successful answers carry no rate limits."""
        seed = generation_id(request.body)
        more: Headers = (("cf-ray", seed[4:20]),)
        if request.method == "POST":
            more += (("x-generation-id", seed),)
        return replace(answer, headers=(*answer.headers, *more))

    # errors

    def failure(
        self, status: int, message: str, code: str | None = None, kind: str = "", param: str | None = None
    ) -> Answer:
        metadata = {"error_type": code or ERROR_TYPES.get(status, "unmapped")}
        error = {"code": status, "message": message, "metadata": metadata}
        return json_answer({"error": error, "user_id": "user_double"}, status)

    def failed_event(self, request: Received, message: str, code: str | int) -> bytes:
        kind = ERROR_TYPES.get(code, "unmapped") if isinstance(code, int) else code
        error = {"code": code, "message": message, "metadata": {"error_type": kind, "provider_code": "overloaded"}}
        choice = {"index": 0, "delta": {"content": ""}, "finish_reason": "error"}
        base = {"id": generation_id(request.body), "object": "chat.completion.chunk", "created": CREATED}
        named = {"model": request.json.get("model"), "provider": "Double"}
        return sse({**base, **named, "error": error, "choices": [choice]})

    def too_long(self, request: Received) -> Answer:
        message = (
            f"This endpoint's maximum context length is {self.context} tokens. However, you requested about "
            f"{self.context + 1} tokens. Please reduce the length of either one, or use the context-compression plugin."
        )
        return self.failure(400, message, "context_length_exceeded")

    def filtered(self, request: Received) -> Answer:
        metadata = {"reasons": ["violence"], "flagged_input": "how do I", "provider_name": "Double"}
        slug = {"model_slug": request.json.get("model"), "error_type": "content_policy_violation"}
        error = {"code": 403, "message": "Input was flagged by moderation", "metadata": {**metadata, **slug}}
        return json_answer({"error": error, "user_id": "user_double"}, 403)

    def unknown_model(self, name: str) -> Answer:
        availability = {"code": "model_not_found", "retryable": False, "requested_models": [name]}
        metadata = {"error_type": "not_found"}
        error = {"code": 400, "message": f"{name} is not a valid model ID", "metadata": metadata}
        return json_answer({"error": {**error, "availability": availability}, "user_id": "user_double"}, 400)

    # chat

    def bad_chat(self, request: Received, body: Mapping[str, Any]) -> Answer | None:
        if unknown := sorted((body.get("provider") or {}).keys() - PROVIDER_FIELDS):
            return self.failure(400, f"provider: Unrecognized key(s) in object: '{unknown[0]}'")
        if body.get("reasoning") and body.get("reasoning_effort"):
            return self.failure(400, 'Only one of "reasoning" and "reasoning_effort" can be provided')
        known = {key: value for key, value in body.items() if key in self.fields and key != "stream_options"}
        return super().bad_chat(request, known)

    def chat(self, request: Received) -> Answer:
        body = request.json
        if wrong := self.bad_chat(request, body):
            return wrong
        name = body.get("model") or body["models"][0]
        said = self.spoken(request, body)
        used = {**body, "model": name, "stream_options": {"include_usage": True, "include_obfuscation": False}}
        prompt = prompt_tokens(body["messages"])
        base = {"id": generation_id(request.body), "provider": "Double"}
        whole = {**chat_whole(used, said, prompt), **base}
        whole["usage"] |= cost(whole["usage"])
        self.generations[base["id"]] = self.generation(whole, bool(body.get("stream")))
        if body.get("stream"):
            return stream_answer(self.events(chat_events(used, replace(said, reasoning=""), prompt), said, whole))
        choice = whole["choices"][0]
        choice["native_finish_reason"] = choice["finish_reason"]
        choice["message"]["reasoning"] = said.reasoning or None
        if said.reasoning:
            choice["message"]["reasoning_details"] = [detail(said.reasoning)]
        return json_answer(whole)

    def events(self, chunks: Sequence[bytes], said: Said, whole: Mapping[str, Any]) -> list[bytes]:
        """OpenAI's chunks as OpenRouter has them: the role in each delta, comments, and usage with its cost."""
        base = {key: whole[key] for key in ("id", "provider", "model", "created")}
        told = [_loads(chunk) for chunk in chunks[:-2]]
        thoughts = [_thought(told[0], token) for token in pieces(said.reasoning)]
        found = [PROCESSING]
        for at, chunk in enumerate((*thoughts, *told)):
            for choice in chunk["choices"]:
                choice["delta"] = {"role": "assistant", "content": "", **choice["delta"]}
                choice["native_finish_reason"] = choice["finish_reason"]
            chunk.pop("usage", None)
            found += [PROCESSING] if at % self.comments == self.comments - 1 else []
            found.append(sse({**chunk, **base}))
        last = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
        tail = {**base, "object": "chat.completion.chunk", "choices": [last], "usage": whole["usage"]}
        return [*found, sse(tail), chunks[-1]]

    def generation(self, whole: Mapping[str, Any], streamed: bool) -> dict[str, Any]:
        """What GET /generation tells of it later."""
        usage = whole["usage"]
        return {
            "id": whole["id"],
            "model": whole["model"],
            "provider_name": "Double",
            "total_cost": usage["cost"],
            "tokens_prompt": usage["prompt_tokens"],
            "tokens_completion": usage["completion_tokens"],
            "finish_reason": whole["choices"][0]["finish_reason"],
            "cancelled": False,
            "streamed": streamed,
            "is_byok": False,
        }


@dataclass(frozen=True, slots=True)
class ChoiceError:
    """A whole answer whose one choice broke off: partial text, finish_reason "error", the error beside it."""

    code: int = 502

    def __call__(self, double: Double, request: Received) -> Answer:
        metadata = {"error_type": "provider_unavailable"}
        error = {"code": self.code, "message": "Provider disconnected", "metadata": metadata}
        message = {"role": "assistant", "content": "partial"}
        choice = {"message": message, "finish_reason": "error", "error": error}
        base = {"id": generation_id(request.body), "object": "chat.completion", "created": CREATED}
        return json_answer({**base, "model": request.json.get("model"), "provider": "Double", "choices": [choice]})


def generation_id(body: bytes) -> str:
    return "gen-" + hashlib.sha256(body).hexdigest()[:24]


def cost(usage: Mapping[str, Any]) -> dict[str, Any]:
    """What OpenRouter adds to the counts."""
    prompt, completion = usage["prompt_tokens"] * COST, usage["completion_tokens"] * COST
    parts = {"upstream_inference_prompt_cost": prompt, "upstream_inference_completions_cost": completion}
    details = {"upstream_inference_cost": None, **parts}
    return {"cost": prompt + completion, "is_byok": False, "cost_details": details}


def detail(text: str) -> dict[str, Any]:
    return {"type": "reasoning.text", "text": text, "signature": None, "format": "unknown", "index": 0}


def _loads(event: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(event.removeprefix(b"data: "))
    return found


def _thought(first: Mapping[str, Any], token: str) -> dict[str, Any]:
    """A chunk of reasoning."""
    delta = {"reasoning": token, "reasoning_details": [detail(token)]}
    return {**first, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}]}
