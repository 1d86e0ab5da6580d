"""OpenAI's Responses API, whole and as typed events without [DONE] (from the openai SDK's types)."""

from collections.abc import Mapping
from typing import Any

from tests.doubles.openai_chat import CREATED, answer_id
from tests.doubles.wire import sse
from tests.doubles.words import Said, pieces


def _usage(prompt: int, said: Said) -> dict[str, Any]:
    return {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": said.tokens,
        "output_tokens_details": {"reasoning_tokens": len(pieces(said.reasoning))},
        "total_tokens": prompt + said.tokens,
    }


def _message(body: Mapping[str, Any], status: str, content: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": answer_id("msg_", body),
        "type": "message",
        "role": "assistant",
        "status": status,
        "content": content,
    }


def _calls(said: Said) -> list[dict[str, Any]]:
    calls = [call.named(at) for at, call in enumerate(said.tools)]
    return [
        {
            "id": f"fc_{call.id}",
            "type": "function_call",
            "call_id": call.id,
            "name": call.name,
            "arguments": call.arguments,
            "status": "completed",
        }
        for call in calls
    ]


def _text(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _output(body: Mapping[str, Any], said: Said) -> list[dict[str, Any]]:
    message = [_message(body, "completed", [_text(said.text)])] if said.text else []
    return [*message, *_calls(said)]


def _response(body: Mapping[str, Any], status: str, output: list[dict[str, Any]], usage: Any) -> dict[str, Any]:
    return {
        "id": answer_id("resp_", body),
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "model": body["model"],
        "output": output,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": body.get("instructions"),
        "parallel_tool_calls": body.get("parallel_tool_calls", True),
        "tool_choice": body.get("tool_choice", "auto"),
        "tools": body.get("tools", []),
        "temperature": body.get("temperature", 1.0),
        "top_p": body.get("top_p", 1.0),
        "metadata": body.get("metadata", {}),
        "store": body.get("store", True),
        "usage": usage,
    }


def response_whole(body: Mapping[str, Any], said: Said, prompt: int) -> dict[str, Any]:
    """The `response` object."""
    status = "incomplete" if said.reason == "length" else "completed"
    return _response(body, status, _output(body, said), _usage(prompt, said))


def response_events(body: Mapping[str, Any], said: Said, prompt: int) -> list[bytes]:
    """The events in OpenAI's order, numbered."""
    started = {"response": _response(body, "in_progress", [], None)}
    found: list[tuple[str, dict[str, Any]]] = [("response.created", started), ("response.in_progress", started)]
    if said.text:
        found += _message_events(body, said)
    for at, call in enumerate(_calls(said), start=1 if said.text else 0):
        found += _call_events(at, call)
    whole = response_whole(body, said, prompt)
    found.append((f"response.{whole['status']}", {"response": whole}))
    return [sse({"type": kind, "sequence_number": at, **rest}, kind) for at, (kind, rest) in enumerate(found)]


def _message_events(body: Mapping[str, Any], said: Said) -> list[tuple[str, dict[str, Any]]]:
    where = {"item_id": answer_id("msg_", body), "output_index": 0, "content_index": 0}
    added = {"output_index": 0, "item": _message(body, "in_progress", [])}
    found: list[tuple[str, dict[str, Any]]] = [
        ("response.output_item.added", added),
        ("response.content_part.added", {**where, "part": _text("")}),
    ]
    for token in pieces(said.text):
        found.append(("response.output_text.delta", {**where, "delta": token, "logprobs": []}))
    done = {"output_index": 0, "item": _message(body, "completed", [_text(said.text)])}
    return [
        *found,
        ("response.output_text.done", {**where, "text": said.text, "logprobs": []}),
        ("response.content_part.done", {**where, "part": _text(said.text)}),
        ("response.output_item.done", done),
    ]


def _call_events(at: int, call: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    where = {"item_id": call["id"], "output_index": at}
    begun = {**call, "arguments": "", "status": "in_progress"}
    return [
        ("response.output_item.added", {"output_index": at, "item": begun}),
        ("response.function_call_arguments.delta", {**where, "delta": call["arguments"]}),
        ("response.function_call_arguments.done", {**where, "arguments": call["arguments"], "name": call["name"]}),
        ("response.output_item.done", {"output_index": at, "item": call}),
    ]
