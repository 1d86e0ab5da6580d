"""Anthropic's Messages API as api.anthropic.com speaks it (anthropic SDK types)."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tests.doubles.anthropic_checks import merged, wrong
from tests.doubles.server import Double
from tests.doubles.wire import Answer, Headers, Received, json_answer, sse, stream_answer
from tests.doubles.words import Said, ToolCall, count, limited, pieces, plain, prefilled, prompt_tokens, question

MODELS = ("claude-sonnet-4-5-20250929", "claude-haiku-4-5-20251001", "claude-opus-4-1-20250805")
KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
STOPS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
SIGNATURE = "EqQBCgIYAhIkZG91YmxlLXNpZ25hdHVyZQ=="


class AnthropicDouble(Double):
    """`cached`: tokens of every prompt that come from the cache. `alternating`: consecutive same roles are refused."""

    name = "anthropic"
    base_path = "/v1"
    work = ("/v1/messages",)
    context = 200_000  # tokens
    cached = 0
    alternating = False

    def __init__(self, *, key: str = "sk-ant-double-key", models: Sequence[str] = MODELS, port: int = 0) -> None:
        super().__init__(key=key, models=models, port=port)

    # the HTTP side

    def key_of(self, request: Received) -> str:
        return request.header("x-api-key") or super().key_of(request)

    def answer(self, request: Received) -> Answer:
        return self.refused(request) or self.routed(request)

    def refused(self, request: Received) -> Answer | None:
        """Who asks, and in which version."""
        key = self.key_of(request)
        if not key:
            return self.failed(request, 401, "x-api-key header is required")
        if key != self.key:
            return self.failed(request, 401, "invalid x-api-key")
        if not request.header("anthropic-version"):
            return self.failed(request, 400, "anthropic-version: header is required")
        return None

    def routed(self, request: Received) -> Answer:
        path = request.route
        if request.method == "GET" and path == "/v1/models":
            return json_answer(self.catalog())
        if request.method == "GET" and path.startswith("/v1/models/"):
            name = path.removeprefix("/v1/models/")
            return json_answer(model(name)) if name in self.models else self.unknown(request, name)
        if path not in ("/v1/messages", "/v1/messages/count_tokens"):
            return self.failed(request, 404, "Not Found")
        if request.method != "POST":
            return self.failed(request, 405, "Method Not Allowed")
        try:
            body = request.json
        except ValueError:
            return self.failed(request, 400, "The request body is not valid JSON")
        if not isinstance(body, dict) or "model" not in body:
            return self.failed(request, 400, "model: Field required")
        if path.endswith("/count_tokens"):
            return json_answer({"input_tokens": self.prompt(body)})
        return self.messages(request, body)

    def dressed(self, answer: Answer, request: Received) -> Answer:
        seed = hashlib.sha256(b"%d" % len(self.requests)).hexdigest()[:24]
        more: Headers = (("request-id", f"req_{seed}"), ("anthropic-organization-id", "org-double"))
        for what, limit in (("requests", 4000), ("tokens", 480_000), ("input-tokens", 400_000)):
            name = f"anthropic-ratelimit-{what}"
            more += ((f"{name}-limit", str(limit)), (f"{name}-remaining", str(limit - 1)))
            more += ((f"{name}-reset", "2026-11-22T12:00:00Z"),)
        return replace(answer, headers=(*answer.headers, *more))

    # errors

    def failed(self, request: Received, status: int, message: str, code: str | None = None) -> Answer:
        error = {"type": code or KINDS.get(status, "api_error"), "message": message}
        return json_answer({"type": "error", "error": error, "request_id": "req_double"}, status)

    def failed_event(self, request: Received, message: str, code: str | int) -> bytes:
        kind = code if str(code) in KINDS.values() else "overloaded_error"
        return sse({"type": "error", "error": {"type": kind, "message": message}}, "error")

    def too_long(self, request: Received) -> Answer:
        message = f"prompt is too long: {self.context + 1} tokens > {self.context} maximum"
        return self.failed(request, 400, message)

    def filtered(self, request: Received) -> Answer:
        return self.failed(request, 400, "Output blocked by content filtering policy")

    def unknown(self, request: Received, name: str) -> Answer:
        return self.failed(request, 404, f"model: {name}")

    def is_end(self, event: bytes) -> bool:
        return event.startswith(b"event: message_stop")

    # the endpoints

    def catalog(self) -> dict[str, Any]:
        first, last = (self.models[0], self.models[-1]) if self.models else (None, None)
        data = [model(name) for name in self.models]
        return {"data": data, "has_more": False, "first_id": first, "last_id": last}

    def prompt(self, body: Mapping[str, Any]) -> int:
        """Tokens of system, messages and tools."""
        told = [{"content": plain(body.get("system"))}, *body.get("messages", ())]
        return prompt_tokens(told) + count(json.dumps(body.get("tools") or ""))

    def messages(self, request: Received, body: Mapping[str, Any]) -> Answer:
        if text := wrong(body, request.header("anthropic-version")):
            return self.failed(request, 400, text)
        if body["model"] not in self.models:
            return self.unknown(request, body["model"])
        roles = [message["role"] for message in body["messages"]]
        for one, next_one in zip(roles, roles[1:], strict=False):
            if self.alternating and one == next_one:
                text = f'roles must alternate between "user" and "assistant", but found multiple "{one}" roles in a row'
                return self.failed(request, 400, f"messages: {text}")
        if self.prompt(body) > self.context:
            return self.too_long(request)
        said = self.spoken(request, body)
        events = message_events(body, said, self.usage(body, said))
        if body.get("stream"):
            return stream_answer(events, "text/event-stream; charset=utf-8")
        return json_answer(message_whole(body, said, self.usage(body, said)))

    def spoken(self, request: Received, body: Mapping[str, Any]) -> Said:
        """What the model says: going on from an assistant message, thinking first where that is enabled."""
        messages = merged(body["messages"])
        said = self.compose(request, question(messages))
        choice = body.get("tool_choice") or {}
        if request.said is None and self.said is None and choice.get("type") in ("any", "tool"):
            said = Said(tools=(forced(body["tools"], choice.get("name")),))
        said = replace(said, text=prefilled(messages, said.text))
        thinks = (body.get("thinking") or {}).get("type") in ("enabled", "adaptive")
        said = replace(said, reasoning=(said.reasoning or "Let me think.") if thinks else "")
        return limited(said, body["max_tokens"])

    def usage(self, body: Mapping[str, Any], said: Said) -> dict[str, Any]:
        """The counts; `input_tokens` leaves out what came from the cache."""
        return {
            "input_tokens": self.prompt(body) - self.cached,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": self.cached,
            "output_tokens": said.tokens,
            "service_tier": "standard",
        }


def model(name: str) -> dict[str, Any]:
    shown = name.rpartition("-")[0].replace("-", " ").title()
    created = "2025-09-29T00:00:00Z"
    limits = {"max_input_tokens": 200_000, "max_tokens": 64_000}
    return {"type": "model", "id": name, "display_name": shown, "created_at": created, **limits}


def forced(tools: Sequence[Mapping[str, Any]], name: str | None) -> ToolCall:
    """The call a model makes that must make one."""
    tool = next(tool for tool in tools if name in (None, tool["name"]))
    return ToolCall(tool["name"], json.dumps({key: key for key in tool["input_schema"].get("properties", {})}))


def content(said: Said) -> list[dict[str, Any]]:
    """The blocks of the answer."""
    found: list[dict[str, Any]] = []
    if said.reasoning:
        found.append({"type": "thinking", "thinking": said.reasoning, "signature": SIGNATURE})
    if said.text:
        found.append({"type": "text", "text": said.text})
    for at, call in enumerate(said.tools):
        name = "toolu_" + call.named(at).id.removeprefix("call_")
        found.append({"type": "tool_use", "id": name, "name": call.name, "input": json.loads(call.arguments)})
    return found


def message_whole(body: Mapping[str, Any], said: Said, usage: Mapping[str, Any]) -> dict[str, Any]:
    """The `message` object."""
    seed = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:24]
    return {
        "id": f"msg_{seed}",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": content(said),
        "stop_reason": STOPS.get(said.reason, said.reason),
        "stop_sequence": None,
        "usage": dict(usage),
    }


def message_events(body: Mapping[str, Any], said: Said, usage: Mapping[str, Any]) -> list[bytes]:
    """The same as events, with a ping where Anthropic sends one."""
    whole = message_whole(body, said, usage)
    begun = {**whole, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
    found = [_event("message_start", message=begun)]
    for index, block in enumerate(whole["content"]):
        empty, deltas = _in_pieces(block)
        found.append(_event("content_block_start", index=index, content_block=empty))
        if index == 0:
            found.append(_event("ping"))
        found += [_event("content_block_delta", index=index, delta=delta) for delta in deltas]
        found.append(_event("content_block_stop", index=index))
    delta = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    found.append(_event("message_delta", delta=delta, usage={"output_tokens": said.tokens}))
    return [*found, _event("message_stop")]


def _event(kind: str, **fields: object) -> bytes:
    return sse({"type": kind, **fields}, kind)


def _in_pieces(block: Mapping[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A block as it starts, and the deltas that fill it."""
    if block["type"] == "text":
        return {"type": "text", "text": ""}, [{"type": "text_delta", "text": token} for token in pieces(block["text"])]
    if block["type"] == "thinking":
        thought = [{"type": "thinking_delta", "thinking": token} for token in pieces(block["thinking"])]
        sealed = {"type": "signature_delta", "signature": block["signature"]}
        return {"type": "thinking", "thinking": "", "signature": ""}, [*thought, sealed]
    text = json.dumps(block["input"], ensure_ascii=False)
    cuts = ["", *(text[at : at + 7] for at in range(0, len(text), 7))]  # the first piece is empty, as theirs
    return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": cut} for cut in cuts]
