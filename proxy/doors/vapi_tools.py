"""Vapi's tool calls: parsed in each of their shapes, asked concurrently, answered with one line each."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from proxy.errors import SluiceError
from proxy.shapes import object_of, string_of

Tool = Callable[[bytes], Awaitable[bytes]]
"""Takes `{"toolCallId", "name", "arguments", "callId"}` as JSON, gives the tool's answer. Raises SluiceError."""

_MOST: Final = 32  # tools asked per message
_ANSWER: Final = frozenset({"result", "error"})


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One tool call; `arguments` None: not a JSON object."""

    id: str
    name: str
    arguments: dict[str, Any] | None


def tool_calls(message: Mapping[str, Any]) -> list[ToolCall]:
    """The calls of a `tool-calls` message: of `toolCallList`, else of `toolWithToolCallList`."""
    for name in ("toolCallList", "toolWithToolCallList"):
        listed = message.get(name)
        if isinstance(listed, list) and listed:
            return [_read(item) for item in listed if isinstance(item, dict)]
    return []


def _read(item: dict[str, Any]) -> ToolCall:
    """`{id, function: {name, arguments: text or object}}` or `{id, name, parameters}`, perhaps within `toolCall`."""
    inner = object_of(item.get("toolCall")) or item
    function = object_of(inner.get("function"))
    outer = object_of(item.get("function"))
    names = (function.get("name"), inner.get("name"), item.get("name"), outer.get("name"))
    name = next((name for name in names if isinstance(name, str) and name), "")
    given = function.get("arguments", inner.get("arguments", inner.get("parameters")))
    return ToolCall(string_of(inner.get("id")), name, _arguments(given))


def _arguments(given: Any) -> dict[str, Any] | None:
    if isinstance(given, str):
        try:
            given = orjson.loads(given or "{}")
        except orjson.JSONDecodeError:
            return None
    if given is None:
        return {}
    return given if isinstance(given, dict) else None


async def results(calls: list[ToolCall], tools: Mapping[str, Tool], call_id: str | None) -> list[dict[str, str]]:
    """`[{toolCallId, name, result or error}]` in the order of the calls."""
    answers = await asyncio.gather(*(_asked(call, tools, call_id) for call in calls[:_MOST]))
    answers += [{"error": f"Not called: only {_MOST} tools are called at a time."} for _ in calls[_MOST:]]
    return [{"toolCallId": call.id, "name": call.name, **result} for call, result in zip(calls, answers, strict=True)]


async def function_result(message: Mapping[str, Any], tools: Mapping[str, Tool], call_id: str | None) -> dict[str, str]:
    """`{result or error}` for a message with a `functionCall` of `{name, parameters}`; {} for one without."""
    found = object_of(message.get("functionCall"))
    return await _asked(_read(found), tools, call_id) if found else {}


async def _asked(call: ToolCall, tools: Mapping[str, Tool], call_id: str | None) -> dict[str, str]:
    tool = tools.get(call.name)
    if tool is None:
        return {"error": f"There is no tool named {call.name!r}."}
    if call.arguments is None:
        return {"error": f"The arguments for {call.name} are not a JSON object."}
    try:
        body = orjson.dumps({"toolCallId": call.id, "name": call.name, "arguments": call.arguments, "callId": call_id})
    except orjson.JSONEncodeError:
        return {"error": f"The arguments for {call.name} are nested too deeply."}
    try:
        return parse_result(await tool(body))
    except SluiceError as failure:
        return {"error": f"The tool {call.name} failed: {one_line(failure.message)}"}


def parse_result(answer: bytes) -> dict[str, str]:
    """A tool's answer as `{"result": text}` or `{"error": text}`.

    An answer that is such an object is taken as it is; any other answer becomes the result as a whole.
    """
    try:
        content = orjson.loads(answer)
    except orjson.JSONDecodeError:
        return {"result": one_line(answer.decode("utf-8", "replace"))}
    if isinstance(content, dict) and content and content.keys() <= _ANSWER:
        if content.get("error"):
            return {"error": _text(content["error"])}
        return {"result": _text(content.get("result"))}
    return {"result": _text(content)}


def _text(content: Any) -> str:
    if isinstance(content, str):
        return one_line(content)
    try:
        return orjson.dumps(content).decode()
    except orjson.JSONEncodeError:
        return "The answer is nested too deeply."


def one_line(text: str) -> str:
    """The text with every run of white space replaced by one space: Vapi accepts results of one line."""
    return " ".join(text.split())
