"""Tool calls in every shape, and answers of one line."""

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.doors.vapi_tools import ToolCall, parse_result, results, tool_calls
from proxy.errors import SluiceError

ASKED = ToolCall("c1", "lookup", {"city": "Oslo"})


@pytest.mark.parametrize(
    "item",
    [
        {"id": "c1", "type": "function", "function": {"name": "lookup", "arguments": '{"city": "Oslo"}'}},
        {"id": "c1", "type": "function", "function": {"name": "lookup", "arguments": {"city": "Oslo"}}},
        {"id": "c1", "name": "lookup", "parameters": {"city": "Oslo"}},
        {"id": "c1", "name": "lookup", "arguments": {"city": "Oslo"}},
    ],
)
def test_calls_come_in_three_shapes_and_two_lists(item: dict[str, Any]) -> None:
    assert tool_calls({"toolCallList": [item]}) == [ASKED]
    wrapped = {"type": "function", "function": {"name": "lookup", "parameters": {"type": "object"}}, "toolCall": item}
    assert tool_calls({"toolWithToolCallList": [wrapped]}) == [ASKED]
    assert tool_calls({"toolCallList": [], "toolWithToolCallList": [{"name": "lookup", "toolCall": item}]}) == [ASKED]


def test_a_wrapped_call_may_be_named_outside() -> None:
    inner = {"id": "c1", "parameters": {"city": "Oslo"}}
    assert tool_calls({"toolWithToolCallList": [{"name": "lookup", "toolCall": inner}]}) == [ASKED]


@pytest.mark.parametrize(("given", "read"), [("", {}), (None, {}), ("{", None), ("[]", None), ([1], None), (7, None)])
def test_arguments_are_an_object_or_nothing(given: Any, read: Any) -> None:
    (call,) = tool_calls({"toolCallList": [{"id": "c", "function": {"name": "f", "arguments": given}}]})
    assert call.arguments == read


@settings(max_examples=60)
@given(st.recursive(st.none() | st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(
    st.sampled_from(("toolCallList", "toolWithToolCallList", "toolCall", "function", "name", "id", "arguments")), inner
)))  # fmt: skip
def test_any_message_can_be_read(message: Any) -> None:
    for each in (message, [message], [{"toolCall": message}], [{"function": message}]):
        for call in tool_calls({"toolCallList": each}):
            assert isinstance(call.id, str) and isinstance(call.name, str)


async def echo(body: bytes) -> bytes:
    return body


async def broken(body: bytes) -> bytes:
    raise SluiceError("upstream_timeout", "It did not answer\nin time.")


def test_tools_are_asked_and_failures_are_answers() -> None:
    calls = [ASKED, ToolCall("c2", "nobody", {}), ToolCall("c3", "late", {}), ToolCall("c4", "lookup", None)]
    answers = asyncio.run(results(calls, {"lookup": echo, "late": broken}, "call-1"))
    assert json.loads(answers[0].pop("result")) == {
        "toolCallId": "c1",
        "name": "lookup",
        "arguments": {"city": "Oslo"},
        "callId": "call-1",
    }
    assert answers == [
        {"toolCallId": "c1", "name": "lookup"},
        {"toolCallId": "c2", "name": "nobody", "error": "There is no tool named 'nobody'."},
        {"toolCallId": "c3", "name": "late", "error": "The tool late failed: It did not answer in time."},
        {"toolCallId": "c4", "name": "lookup", "error": "The arguments for lookup are not a JSON object."},
    ]


def test_tools_run_at_the_same_time() -> None:
    async def ask() -> list[dict[str, str]]:
        together = asyncio.Barrier(5)

        async def met(body: bytes) -> bytes:
            await together.wait()
            return b"met"

        async with asyncio.timeout(5):
            return await results([ToolCall(str(at), "met", {}) for at in range(5)], {"met": met}, None)

    assert [answer["result"] for answer in asyncio.run(ask())] == ["met"] * 5


def test_there_is_a_most_of_tools() -> None:
    answers = asyncio.run(results([ASKED] * 40, {"lookup": echo}, None))
    assert ["result" in answer for answer in answers] == [True] * 32 + [False] * 8


def test_arguments_too_deep_to_write_are_an_answer_too() -> None:
    deep: dict[str, Any] = {}
    for _ in range(500):
        deep = {"a": deep}
    (answer,) = asyncio.run(results([ToolCall("c", "lookup", deep)], {"lookup": echo}, None))
    assert answer["error"] == "The arguments for lookup are nested too deeply."


@pytest.mark.parametrize(
    ("answer", "read"),
    [
        (b"21 degrees\n and  sun\r\n", {"result": "21 degrees and sun"}),
        (b"", {"result": ""}),
        (b'"one\\ntwo"', {"result": "one two"}),
        (b'{"result": "one\\ntwo"}', {"result": "one two"}),
        (b'{"result": {"t": 21}}', {"result": '{"t":21}'}),
        (b'{"error": "no such\\ncity"}', {"error": "no such city"}),
        (b'{"error": null, "result": "yes"}', {"result": "yes"}),
        (b'{"result": 21, "unit": "C\\n"}', {"result": '{"result":21,"unit":"C\\n"}'}),
        (b"[1,\n2]", {"result": "[1,2]"}),
        (b"{}", {"result": "{}"}),
        (b"\xff\xfe", {"result": "\ufffd\ufffd"}),
        (b"[" * 400 + b"]" * 400, {"result": "The answer is nested too deeply."}),
    ],
)
def test_an_answer_is_one_line(answer: bytes, read: dict[str, str]) -> None:
    assert parse_result(answer) == read


@settings(max_examples=60)
@given(st.binary())
def test_any_answer_is_one_line(answer: bytes) -> None:
    ((field, text),) = parse_result(answer).items()
    assert field in ("result", "error") and "\n" not in text and "\r" not in text
