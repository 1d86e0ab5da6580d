"""OpenAI's chat completions, whole and as a stream (from the openai SDK's types)."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from tests.doubles.wire import sse
from tests.doubles.words import Said, ToolCall, pieces

CREATED = 1_741_569_952
DONE = b"data: [DONE]\n\n"


def answer_id(prefix: str, body: Mapping[str, Any]) -> str:
    """An id that depends on the request alone."""
    return prefix + hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:29]


def usage(prompt: int, said: Said, n: int = 1) -> dict[str, Any]:
    """The token counts of a chat completion."""
    completion = said.tokens * n
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": len(pieces(said.reasoning)),
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def logprobs(body: Mapping[str, Any], tokens: list[str]) -> dict[str, Any] | None:
    """Made-up log probabilities where they were asked for."""
    if not body.get("logprobs"):
        return None
    top = body.get("top_logprobs") or 0

    def one(token: str) -> dict[str, Any]:
        return {"token": token, "logprob": -0.25, "bytes": list(token.encode())}

    return {"content": [{**one(token), "top_logprobs": [one(token)][:top]} for token in tokens], "refusal": None}


def whole_call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def chat_whole(body: Mapping[str, Any], said: Said, prompt: int) -> dict[str, Any]:
    """The `chat.completion` object."""
    calls = [whole_call(call.named(at)) for at, call in enumerate(said.tools)]
    message: dict[str, Any] = {"role": "assistant", "content": said.text if said.text or not calls else None}
    message |= {"refusal": said.refusal or None, "annotations": []}
    if calls:
        message["tool_calls"] = calls
    n = body.get("n") or 1
    choice = {"message": message, "logprobs": logprobs(body, pieces(said.text)), "finish_reason": said.reason}
    return {
        "id": answer_id("chatcmpl-", body),
        "object": "chat.completion",
        "created": CREATED,
        "model": body["model"],
        "choices": [{"index": index, **choice} for index in range(n)],
        "usage": usage(prompt, said, n),
        "service_tier": "default",
        "system_fingerprint": "fp_double",
    }


def deltas(body: Mapping[str, Any], said: Said) -> Iterator[tuple[dict[str, Any], Any, str | None]]:
    """The deltas of one choice in turn: (delta, logprobs, finish_reason)."""
    content = None if said.tools and not said.text else ""
    yield {"role": "assistant", "content": content, "refusal": None}, None, None
    for token in pieces(said.text):
        yield {"content": token}, logprobs(body, [token]), None
    for token in pieces(said.refusal):
        yield {"refusal": token}, None, None
    for at, call in enumerate(said.tools):
        call = call.named(at)
        first = {"index": at, **whole_call(ToolCall(call.name, "", call.id))}
        yield {"tool_calls": [first]}, None, None
        for start in range(0, len(call.arguments), 7):
            piece = {"index": at, "function": {"arguments": call.arguments[start : start + 7]}}
            yield {"tool_calls": [piece]}, None, None
    yield {}, None, said.reason


def chat_events(body: Mapping[str, Any], said: Said, prompt: int) -> list[bytes]:
    """The stream: with n > 1 the choices interleave; usage only where asked, and then null on every other chunk."""
    options = body.get("stream_options") or {}
    n = body.get("n") or 1
    base: dict[str, Any] = {
        "id": answer_id("chatcmpl-", body),
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": body["model"],
        "service_tier": "default",
        "system_fingerprint": "fp_double",
    }
    tail: dict[str, Any] = {"usage": None} if options.get("include_usage") else {}
    found = []
    for at, (delta, probs, finish) in enumerate(deltas(body, said)):
        noise = {} if options.get("include_obfuscation") is False else {"obfuscation": "x7Kq2bR9"[: 1 + at % 8]}
        for index in range(n):
            choice = {"index": index, "delta": delta, "logprobs": probs, "finish_reason": finish}
            found.append(sse({**base, "choices": [choice], **tail, **noise}))
    if tail:
        found.append(sse({**base, "choices": [], "usage": usage(prompt, said, n)}))
    return [*found, DONE]
