"""OpenAI's API as api.openai.com speaks it."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tests.doubles.openai_chat import chat_events, chat_whole
from tests.doubles.openai_others import completion_events, completion_whole, embeddings, images, moderations, speech
from tests.doubles.openai_responses import response_events, response_whole
from tests.doubles.server import Double
from tests.doubles.wire import Answer, Headers, Received, json_answer, sse, stream_answer
from tests.doubles.words import Said, ToolCall, limited, plain, prefilled, prompt_tokens, question, tool_call

MODELS = (
    "gpt-4o",
    "gpt-4o-mini",
    "gpt-4.1",
    "o4-mini",
    "text-embedding-3-small",
    "omni-moderation-latest",
    "gpt-image-1",
    "tts-1",
)
CHAT_FIELDS = frozenset(
    "model messages stream stream_options max_completion_tokens max_tokens temperature top_p n stop presence_penalty "
    "frequency_penalty logit_bias logprobs top_logprobs seed user safety_identifier response_format tools tool_choice "
    "parallel_tool_calls functions function_call reasoning_effort verbosity service_tier store metadata modalities "
    "audio prediction prompt_cache_key prompt_cache_options prompt_cache_retention moderation "
    "web_search_options".split()
)  # from the openai SDK's completion_create_params.py
ROLES = frozenset(("developer", "system", "user", "assistant", "tool", "function"))


class OpenAIDouble(Double):
    """`strict`: unknown fields and models are refused, as OpenAI does. `prefill`: goes on from an assistant message."""

    name = "openai"
    base_path = "/v1"
    work = (
        "/chat/completions",
        "/completions",
        "/embeddings",
        "/responses",
        "/moderations",
        "/images/generations",
        "/audio/speech",
        "/rerank",
    )
    strict = True
    prefill = False
    context = 128_000  # tokens
    owner = "openai"
    fields: frozenset[str] = CHAT_FIELDS

    def __init__(self, *, key: str = "sk-openai-double-key", models: Sequence[str] = MODELS, port: int = 0) -> None:
        super().__init__(key=key, models=models, port=port)
        self.routes: dict[str, Callable[[Received], Answer]] = {
            "/chat/completions": self.chat,
            "/completions": self.completions,
            "/embeddings": self.embeddings,
            "/responses": self.responses,
            "/moderations": lambda request: json_answer(moderations(request.json)),
            "/images/generations": lambda request: json_answer(images(request.json)),
            "/audio/speech": lambda request: speech(request.json),
            "/rerank": self.rerank,
        }

    # the HTTP side

    def answer(self, request: Received) -> Answer:
        return self.refused(request) or self.routed(request)

    def routed(self, request: Received) -> Answer:
        """The answer of the endpoint that the path names."""
        path = request.route.removeprefix(self.base_path)
        if request.method == "GET" and path == "/models":
            return json_answer({"object": "list", "data": [self.model(name) for name in self.models]})
        if request.method == "GET" and path.startswith("/models/"):
            name = path.removeprefix("/models/")
            return json_answer(self.model(name)) if name in self.models else self.unknown_model(name)
        endpoint = self.routes.get(path) if request.route.startswith(self.base_path) else None
        if endpoint is None:
            return self.failure(404, f"Invalid URL ({request.method} {request.path})")
        if request.method != "POST":
            return self.failure(405, f"Not allowed to {request.method} on {request.route}.", "method_not_supported")
        return self.bad_body(request) or endpoint(request)

    def refused(self, request: Received) -> Answer | None:
        """401 where the key is none of ours; the text echoes part of it, as OpenAI's does."""
        key = self.key_of(request)
        if not self.key or key == self.key:
            return None
        if not key:
            return self.failure(401, "You didn't provide an API key. You need to provide your API key in an header.")
        seen = f"{key[:8]}{'*' * max(0, len(key) - 12)}{key[-4:]}"
        message = f"Incorrect API key provided: {seen}. You can find your API key at https://platform.openai.com."
        return self.failure(401, message, "invalid_api_key")

    def bad_body(self, request: Received) -> Answer | None:
        """400 where the body is no JSON object, 404 where its model does not exist."""
        try:
            body = request.json
        except ValueError:
            return self.failure(400, "We could not parse the JSON body of your request.")
        if not isinstance(body, dict):
            return self.failure(400, "Invalid body: expected an object.")
        if not body.get("model") and not request.route.endswith("/moderations"):
            return self.failure(400, "you must provide a model parameter")
        name = body.get("model", self.models[0] if self.models else "")
        return self.unknown_model(name) if self.strict and name not in self.models else None

    def unknown_model(self, name: str) -> Answer:
        return self.failure(
            404, f"The model `{name}` does not exist or you do not have access to it.", "model_not_found"
        )

    def dressed(self, answer: Answer, request: Received) -> Answer:
        """The headers that every answer has."""
        seed = hashlib.sha256(b"%d" % len(self.requests)).hexdigest()
        more: Headers = (("x-request-id", f"req_{seed[:32]}"), ("openai-processing-ms", "7"))
        more += (("openai-version", "2020-10-01"), ("openai-organization", "org-double"))
        for what, limit in (("requests", 10_000), ("tokens", 2_000_000)):
            more += ((f"x-ratelimit-limit-{what}", str(limit)), (f"x-ratelimit-remaining-{what}", str(limit - 1)))
            more += ((f"x-ratelimit-reset-{what}", "6ms" if what == "requests" else "1s"),)
        more += (("set-cookie", "__cf_bm=double; path=/; HttpOnly"), ("cf-ray", seed[:16]))
        return replace(answer, headers=(*answer.headers, *more))

    # errors

    def failure(
        self, status: int, message: str, code: str | None = None, kind: str = "", param: str | None = None
    ) -> Answer:
        kinds = {429: "requests", 500: "server_error", 503: "server_error"}
        codes = {429: "rate_limit_exceeded", 503: "server_is_overloaded"}
        if code == "insufficient_quota":
            kind = code
        kind = kind or kinds.get(status, "server_error" if status >= 500 else "invalid_request_error")
        error = {"message": message, "type": kind, "param": param, "code": code or codes.get(status)}
        return json_answer({"error": error}, status)

    def failed(self, request: Received, status: int, message: str, code: str | None = None) -> Answer:
        return self.failure(status, message, code)

    def failed_event(self, request: Received, message: str, code: str | int) -> bytes:
        return sse({"error": {"message": message, "type": "server_error", "param": None, "code": code}})

    def too_long(self, request: Received) -> Answer:
        message = (
            f"This model's maximum context length is {self.context} tokens. However, your messages resulted in "
            f"{self.context + 1} tokens. Please reduce the length of the messages."
        )
        return self.failure(400, message, "context_length_exceeded", param="messages")

    def filtered(self, request: Received) -> Answer:
        message = "Your request was rejected as a result of our safety system."
        return self.failure(400, message, "content_policy_violation")

    # the endpoints

    def model(self, name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": 1_715_367_049, "owned_by": self.owner}

    def chat(self, request: Received) -> Answer:
        body = request.json
        if wrong := self.bad_chat(request, body):
            return wrong
        said = self.spoken(request, body)
        prompt = prompt_tokens(body["messages"])
        if body.get("stream"):
            return stream_answer(chat_events(body, said, prompt), "text/event-stream; charset=utf-8")
        return json_answer(chat_whole(body, said, prompt))

    def spoken(self, request: Received, body: Mapping[str, Any]) -> Said:
        """What the model says to this conversation: text, or the tool call it is made to make."""
        messages = body["messages"]
        said = self.compose(request, question(messages))
        if request.said is None and self.said is None:
            if call := tool_call(body.get("tools") or (), body.get("tool_choice")):
                return Said(tools=(call,), finish="tool_calls" if body.get("tool_choice") == "required" else "stop")
        if self.prefill:
            said = replace(said, text=prefilled(messages, said.text))
        return limited(said, body.get("max_completion_tokens") or body.get("max_tokens"))

    def bad_chat(self, request: Received, body: Mapping[str, Any]) -> Answer | None:
        """What OpenAI refuses in a chat request."""
        if self.strict and (unknown := sorted(body.keys() - self.fields)):
            message = f"Unrecognized request argument supplied: {unknown[0]}"
            return self.failure(400, message, "unknown_parameter", param=unknown[0])
        messages = body.get("messages")
        if not isinstance(messages, list) or not messages:
            return self.failure(400, "Missing required parameter: 'messages'.", "missing_required_parameter")
        for at, message in enumerate(messages):
            if not isinstance(message, dict) or message.get("role") not in ROLES:
                where = f"messages[{at}].role"
                return self.failure(400, f"Invalid value for '{where}'.", "invalid_value", param=where)
        if self.strict and body.get("stream_options") and not body.get("stream"):
            message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
            return self.failure(400, message, "invalid_value", param="stream_options")
        if unanswered := self.unanswered(messages):
            return unanswered
        wanted = body.get("max_completion_tokens") or body.get("max_tokens") or 0
        return self.too_long(request) if prompt_tokens(messages) + wanted > self.context else None

    def unanswered(self, messages: Sequence[Mapping[str, Any]]) -> Answer | None:
        """400 where a tool message answers no call that was made."""
        called = {call.get("id") for message in messages for call in message.get("tool_calls") or ()}
        for at, message in enumerate(messages):
            if message["role"] == "tool" and message.get("tool_call_id") not in called:
                text = "messages with role 'tool' must be a response to a preceding message with 'tool_calls'."
                return self.failure(400, f"Invalid parameter: {text}", param=f"messages.[{at}].role")
        return None

    def completions(self, request: Received) -> Answer:
        body = request.json
        said = limited(self.compose(request, str(body.get("prompt", ""))), body.get("max_tokens") or 16)
        if body.get("stream"):
            return stream_answer(completion_events(body, said))
        return json_answer(completion_whole(body, said))

    def embeddings(self, request: Received) -> Answer:
        return json_answer(embeddings(request.json))

    def responses(self, request: Received) -> Answer:
        body = request.json
        given = body.get("input", "")
        messages = [{"role": "user", "content": given}] if isinstance(given, str) else given
        said = self.compose(request, question([item for item in messages if "role" in item]))
        said = limited(said, body.get("max_output_tokens"))
        if body.get("stream"):
            return stream_answer(response_events(body, said, prompt_tokens(messages)))
        return json_answer(response_whole(body, said, prompt_tokens(messages)))

    def rerank(self, request: Received) -> Answer:
        """Not OpenAI's own, but what the servers that speak its dialect have (Cohere's and Jina's shape)."""
        body = request.json
        scored = sorted(((len(plain(text)) % 97 / 97, at) for at, text in enumerate(body["documents"])), reverse=True)
        results = [{"index": at, "relevance_score": score} for score, at in scored[: body.get("top_n")]]
        return json_answer({"id": "rerank-1", "model": body["model"], "results": results})

    def is_end(self, event: bytes) -> bool:
        return event.startswith((b"data: [DONE]", b"event: response.completed"))


__all__ = ["MODELS", "OpenAIDouble", "Said", "ToolCall"]
