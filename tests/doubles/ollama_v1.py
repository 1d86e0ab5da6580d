"""Ollama's OpenAI-like endpoints, as lossy as the real ones (ollama/ollama openai/openai.go)."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tests.doubles.ollama_models import MODIFIED_SECONDS, OllamaModel
from tests.doubles.openai_others import completion_events, completion_whole
from tests.doubles.openai_others import embeddings as openai_embeddings
from tests.doubles.wire import Answer, Received, json_answer, sse, stream_answer

if TYPE_CHECKING:
    from tests.doubles.ollama import OllamaDouble

READ = frozenset(
    "model messages stream stream_options max_tokens seed stop temperature frequency_penalty presence_penalty top_p "
    "response_format tools reasoning reasoning_effort logprobs top_logprobs".split()
)
CREATED = 1_785_833_539
THINK = {"none": False, "minimal": "low", "low": "low", "medium": "medium", "high": "high", "max": "max"}
THINK |= {"xhigh": "max", "ultra": "max"}
NO_URL = "image URLs are not currently supported, please use base64 encoded data instead"


def failure(status: int, message: str) -> Answer:
    kinds = {400: "invalid_request_error", 404: "not_found_error"}
    error = {"message": message, "type": kinds.get(status, "api_error"), "param": None, "code": None}
    return json_answer({"error": error}, status)


def lost_error() -> bytes:
    """What is left of an error in mid-stream: an empty chunk of no model."""
    choice = {"index": 0, "delta": {"content": ""}, "finish_reason": None}
    return sse({**_base(""), "choices": [choice]})


def models(pulled: Iterable[OllamaModel]) -> dict[str, Any]:
    """The list; of no models it is null."""
    return {"object": "list", "data": [_model(model) for model in pulled] or None}


def model(double: "OllamaDouble", name: str) -> Answer:
    found = double.find(name)
    return json_answer(_model(found)) if found else failure(404, f"model '{name}' not found")


def chat(double: "OllamaDouble", request: Received) -> Answer:
    """The request made native, and the native answer made OpenAI's, with what gets lost on the way."""
    body = request.json
    double.ignored |= body.keys() - READ
    if not body.get("messages"):
        return failure(400, "[] is too short - 'messages'")
    try:
        native = _native(body)
    except ValueError as error:
        return failure(400, str(error))
    asked = replace(request, path="/api/chat", body=json.dumps({**native, "stream": True}).encode())
    answer = double.chat(asked)
    if answer.status != 200:
        return failure(answer.status, json.loads(answer.body)["error"])
    lines = [json.loads(line) for line in answer.body.splitlines()]
    made = _events(body, lines) if body.get("stream") else None
    whole = stream_answer(made) if made else json_answer(_whole(body, lines))
    return replace(whole, before=answer.before)


def completions(double: "OllamaDouble", request: Received) -> Answer:
    body = request.json
    if double.find(body["model"]) is None:
        return double.unknown(request, body["model"])
    said = double.compose(request, str(body.get("prompt", "")))
    return (
        stream_answer(completion_events(body, said))
        if body.get("stream")
        else json_answer(completion_whole(body, said))
    )


def embeddings(double: "OllamaDouble", request: Received) -> Answer:
    body = request.json
    if double.find(body["model"]) is None:
        return double.unknown(request, body["model"])
    return json_answer(openai_embeddings(body))


def _model(model: OllamaModel) -> dict[str, Any]:
    return {"id": model.name, "object": "model", "created": MODIFIED_SECONDS, "owned_by": "library"}


def _base(name: str, kind: str = "chat.completion.chunk") -> dict[str, Any]:
    return {
        "id": "chatcmpl-417",
        "object": kind,
        "created": CREATED,
        "model": name,
        "system_fingerprint": "fp_ollama",
    }


def _native(body: Mapping[str, Any]) -> dict[str, Any]:
    """The native request. Raises ValueError with Ollama's text where there is none."""
    options: dict[str, Any] = {"temperature": 1.0, "top_p": 1.0}
    for name in ("temperature", "top_p", "seed", "frequency_penalty", "presence_penalty"):
        if body.get(name) is not None:
            options[name] = body[name]
    if body.get("max_tokens") is not None:
        options["num_predict"] = body["max_tokens"]
    if stop := body.get("stop"):
        options["stop"] = [stop] if isinstance(stop, str) else stop
    native: dict[str, Any] = {"model": body["model"], "options": options, "tools": body.get("tools")}
    effort = (body.get("reasoning") or {}).get("effort") or body.get("reasoning_effort")
    if effort:
        if effort not in THINK:
            raise ValueError(f'invalid reasoning value: \'{effort}\' (must be "high", "medium", "low", or "none")')
        native["think"] = THINK[effort]
    return native | {"messages": [one for message in body["messages"] for one in _messages(message)]}


def _messages(message: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    """One message, or one for each part of it."""
    role, content = message["role"], message.get("content")
    parts: Sequence[Any] = content if isinstance(content, list) else [{"type": "text", "text": content or ""}]
    for part in parts:
        if part["type"] == "text":
            yield {"role": role, "content": part["text"]}
        elif part["type"] == "image_url":
            url = part["image_url"]["url"]
            if not url.startswith("data:image/"):
                raise ValueError(NO_URL)
            yield {"role": role, "content": "", "images": [url.partition(",")[2]]}
        else:
            raise ValueError("invalid message format")


def _said(lines: Sequence[Mapping[str, Any]]) -> Iterable[tuple[dict[str, Any], str | None]]:
    """The deltas of the native stream: (delta, finish_reason)."""
    called = False
    for line in lines:
        message = line["message"]
        delta: dict[str, Any] = {}
        if message["content"]:
            delta["content"] = message["content"]
        if message.get("thinking"):
            delta["reasoning"] = message["thinking"]
        for call in message.get("tool_calls", ()):
            called = True
            function = call["function"]
            made = {"name": function["name"], "arguments": json.dumps(function["arguments"])}
            item = {"id": call["id"], "index": function["index"], "type": "function", "function": made}
            delta["tool_calls"] = [item]
        if delta:
            yield delta, None
    yield {}, "tool_calls" if called else lines[-1]["done_reason"]


def _usage(end: Mapping[str, Any]) -> dict[str, int]:
    prompt, completion = end.get("prompt_eval_count", 0), end.get("eval_count", 0)
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _events(body: Mapping[str, Any], lines: Sequence[Mapping[str, Any]]) -> list[bytes]:
    base = _base(body["model"])
    found = []
    for at, (delta, finish) in enumerate(_said(lines)):
        first = {"role": "assistant", "content": ""} if at == 0 else {}
        choice = {"index": 0, "delta": {**first, **delta}, "finish_reason": finish}
        found.append(sse({**base, "choices": [choice]}))
    if (body.get("stream_options") or {}).get("include_usage"):
        found.append(sse({**base, "choices": [], "usage": _usage(lines[-1])}))
    return [*found, b"data: [DONE]\n\n"]


def _whole(body: Mapping[str, Any], lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": ""}
    told = list(_said(lines))
    for delta, _ in told:
        message["content"] += delta.get("content", "")
        if "reasoning" in delta:
            message["reasoning"] = message.get("reasoning", "") + delta["reasoning"]
        message.setdefault("tool_calls", []).extend(delta.get("tool_calls", ()))
    if not message["tool_calls"]:
        del message["tool_calls"]
    choice = {"index": 0, "message": message, "finish_reason": told[-1][1]}
    return {**_base(body["model"], "chat.completion"), "choices": [choice], "usage": _usage(lines[-1])}
