"""Mistral's API: OpenAI's dialect with a schema that forbids what it does not know (mistralai SDK's models)."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.doubles.openai import OpenAIDouble
from tests.doubles.openai_chat import chat_events, chat_whole
from tests.doubles.wire import Answer, Received, json_answer, sse, stream_answer

MEMBERS = {
    "system": {"role", "content"},
    "user": {"role", "content"},
    "assistant": {"role", "content", "tool_calls", "prefix"},
    "tool": {"role", "content", "tool_call_id", "name"},
}
CALL, FUNCTION = {"id", "type", "function", "index"}, {"name", "arguments"}
FIELDS = frozenset(
    "model messages temperature top_p max_tokens stream stop random_seed metadata response_format tools tool_choice "
    "presence_penalty frequency_penalty n prediction parallel_tool_calls prompt_mode reasoning_effort guardrails "
    "safe_prompt".split()
)


class MistralDouble(OpenAIDouble):
    """Streams end with their usage, which nobody has to ask for; thoughts make content come in pieces.

    What it says after a prefix begins with that prefix.
    """

    name = "mistral"
    strict = False
    owner = "mistralai"

    def __init__(self, *, models: Sequence[str] = ("mistral-large-latest",), port: int = 0) -> None:
        super().__init__(key="mistral-double-key", models=models, port=port)

    def chat(self, request: Received) -> Answer:
        body = request.json
        for place in _forbidden(body):
            detail = [{"type": "extra_forbidden", "loc": ["body", *place], "msg": "Extra inputs are not permitted"}]
            return json_answer({"object": "error", "message": {"detail": detail}, "type": "invalid_request_error"}, 422)
        for id in _ids(body["messages"]):
            if not re.fullmatch("[a-zA-Z0-9]{9}", id):
                text = f"Tool call id was {id} but must be a-z, A-Z, 0-9, with a length of 9."
                error = {"object": "error", "message": text, "type": "invalid_function_call", "code": "3280"}
                return json_answer(error, 400)
        last = body["messages"][-1]
        if last["role"] == "assistant" and not last.get("prefix"):
            text = "Expected last role User or Tool (or Assistant with prefix True) for serving but got assistant"
            return json_answer(
                {"object": "error", "message": text, "type": "invalid_request_error", "code": "3230"}, 400
            )
        said = self.spoken(request, body)
        if not body.get("stream"):
            if not said.reasoning:
                return super().chat(request)
            whole = chat_whole(body, said, 7)
            message = whole["choices"][0]["message"]
            message["content"] = [thought(said.reasoning), {"type": "text", "text": message["content"]}]
            return json_answer(whole)
        asked = {**body, "stream_options": {"include_usage": True, "include_obfuscation": False}}
        first, *events = chat_events(asked, said, 7)
        chunk = json.loads(first.removeprefix(b"data: "))
        chunk["choices"][0]["delta"] = {"content": [thought(said.reasoning)]}
        return stream_answer([first, *([sse(chunk)] if said.reasoning else ()), *events])


def thought(text: str) -> dict[str, Any]:
    """A piece of content that holds thoughts (ThinkChunk)."""
    return {"type": "thinking", "thinking": [{"type": "text", "text": text}]}


def _forbidden(body: Mapping[str, Any]) -> Iterator[tuple[object, ...]]:
    yield from ((name,) for name in body if name not in FIELDS)
    for at, message in enumerate(body["messages"]):
        role = message["role"]
        yield from (("messages", at, role, name) for name in message if name not in MEMBERS.get(role, ()))
        for call in message.get("tool_calls") or ():
            yield from (("messages", at, role, "tool_calls", name) for name in call.keys() - CALL)
            yield from (
                ("messages", at, role, "tool_calls", "function", name) for name in call["function"].keys() - FUNCTION
            )


def _ids(messages: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for message in messages:
        yield from (call["id"] for call in message.get("tool_calls") or ())
        yield from (message["tool_call_id"],) if "tool_call_id" in message else ()
