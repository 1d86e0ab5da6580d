"""Answers to each of Vapi's server messages."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from proxy.doors.vapi_events import VapiEvents
from proxy.doors.vapi_webhook import Webhook
from proxy.errors import SluiceError


async def weather(body: bytes) -> bytes:
    return b"sun"


def told(message: Any, assistant: Mapping[str, Any] | None = None) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """The answer, the last event and the types that were counted."""
    counted: list[str] = []
    hook = Webhook(assistant, {"weather": weather}, VapiEvents(), counted.append)
    reply = asyncio.run(hook.answer({"message": message}))
    return reply, next(iter(hook.events.as_json()["last"]), {}), counted


@pytest.mark.parametrize(
    "whole",
    [{"assistantId": "a"}, {"assistant": {"name": "x"}, "assistantOverrides": {}}, {"squadId": "s"}, {"error": "no"}],
)
def test_an_assistant_request_is_answered_as_configured(whole: dict[str, Any]) -> None:
    assert told({"type": "assistant-request", "call": {"id": "c"}}, whole)[0] == whole


def test_a_bare_assistant_is_wrapped() -> None:
    assistant = {"name": "front desk", "model": {"provider": "custom-llm"}}
    reply, event, counted = told({"type": "assistant-request", "call": {"id": "c"}}, assistant)
    assert reply == {"assistant": assistant}
    assert (event["type"], event["call"], event["status"]) == ("assistant-request", "c", "ok")
    assert counted == ["assistant-request"]


@pytest.mark.parametrize("kind", ["assistant-request", "transfer-destination-request", "handoff-destination-request"])
def test_what_is_not_configured_is_said_in_words(kind: str) -> None:
    reply, event, _ = told({"type": kind})
    assert list(reply) == ["error"] and reply["error"].endswith(".") and event["status"] == "error"


def test_a_configured_destination_takes_transfers() -> None:
    number = {"type": "number", "number": "+15550100"}
    assert told({"type": "transfer-destination-request"}, {"destination": number})[0] == {"destination": number}


@pytest.mark.parametrize(
    ("beside", "picked"),
    [({"assistantId": "a"}, {"assistantId": "a"}), ({"name": "front desk"}, {"assistant": {"name": "front desk"}})],
)
def test_a_destination_beside_an_assistant_does_not_take_the_call_from_it(
    beside: dict[str, Any], picked: dict[str, Any]
) -> None:
    configured = beside | {"destination": {"type": "number", "number": "+15550100"}}
    assert told({"type": "assistant-request"}, configured)[0] == picked
    assert told({"type": "transfer-destination-request"}, configured)[0].keys() == {"destination"}


def test_a_destination_alone_takes_the_call() -> None:
    alone = {"destination": {"type": "number", "number": "+15550100"}}
    assert told({"type": "assistant-request"}, alone)[0] == alone


@pytest.mark.parametrize("given", ['{"city": "Oslo"}', {"city": "Oslo"}])
def test_a_function_call_of_before_there_were_tool_calls_is_answered(given: Any) -> None:
    message = {"type": "function-call", "functionCall": {"name": "weather", "parameters": given}}
    reply, event, counted = told(message)
    assert (reply, event["status"], counted) == ({"result": "sun"}, "ok", ["function-call"])
    reply, event, _ = told({"type": "function-call", "functionCall": {"name": "gone"}})
    assert list(reply) == ["error"] and event["status"] == "error"
    assert told({"type": "function-call"})[0] == {}


def test_tool_calls_are_answered() -> None:
    message = {"type": "tool-calls", "toolCallList": [{"id": "1", "name": "weather"}, {"id": "2", "name": "gone"}]}
    reply, event, _ = told(message)
    assert reply["results"][0] == {"toolCallId": "1", "name": "weather", "result": "sun"}
    assert reply["results"][1]["error"] and event["status"] == "error"
    assert told({"type": "tool-calls"})[0] == {"results": []}


@pytest.mark.parametrize(
    ("message", "kind", "status"),
    [
        ({"type": "status-update", "status": "ringing"}, "status-update", "ringing"),
        ({"type": "status-update", "status": "ended", "endedReason": "silence"}, "status-update", "silence"),
        ({"type": "end-of-call-report", "endedReason": "hangup", "artifact": {}}, "end-of-call-report", "hangup"),
        ({"type": "hang"}, "hang", "ok"),
        ({"type": "of-tomorrow", "status": 7}, "other", "ok"),
    ],
)
def test_news_are_counted_and_thanked_for(message: dict[str, Any], kind: str, status: str) -> None:
    reply, event, counted = told(message)
    assert (reply, event["type"], event["status"], counted) == ({}, kind, status, [kind])


def test_an_empty_knowledge_base_has_no_documents() -> None:
    assert told({"type": "knowledge-base-request"})[0] == {"documents": []}


@pytest.mark.parametrize("message", [None, [], "x", {}, {"type": None}, {"type": 7}])
def test_what_is_no_message_is_refused(message: Any) -> None:
    with pytest.raises(SluiceError) as caught:
        told(message)
    assert caught.value.status == 400
