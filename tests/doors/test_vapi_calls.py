"""The part of a Vapi request that reaches the gateway."""

import json
from typing import Any

import pytest

from proxy.doors.vapi_calls import chat_body, session_of, without_vapis

TURN: dict[str, Any] = {
    "model": "gpt-4o",
    "messages": [
        {"role": "system", "content": "Be brief.", "time": 1, "endTime": 2, "secondsFromStart": 0.1},
        {"role": "user", "content": "Hi <flush />", "name": "ann", "duration": 3, "source": "mic"},
        {
            "role": "assistant",
            "content": None,
            "refusal": None,
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "endCall", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c", "content": "ok", "metadata": {"k": "canary"}},
    ],
    "temperature": 0.5,
    "max_tokens": 250,
    "stream": True,
    "tools": [{"type": "function", "function": {"name": "endCall", "parameters": {"time": {"type": "string"}}}}],
    "call": {"id": "call-1", "orgId": "canary", "serverUrlSecret": "canary"},
    "phoneNumber": {"twilioAuthToken": "canary"},
    "customer": {"number": "canary"},
    "metadata": {"x": "canary"},
    "timestamp": 1760000000000,
    "assistant": {"name": "canary"},
    "chat": {"id": "canary"},
    "destination": {"number": "canary"},
    "tier": "canary",
}


def made(fields: dict[str, Any], model: str | None = None) -> Any:
    return json.loads(chat_body(json.dumps(fields).encode(), fields, model))


def test_what_vapi_adds_is_taken_off_and_the_rest_stays() -> None:
    body = made(TURN)
    assert "canary" not in json.dumps(body)
    assert body.keys() == {"model", "messages", "temperature", "max_tokens", "stream", "tools"}
    assert body["tools"] == TURN["tools"], "parameters of tools are named as they like"
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert body["messages"][1] == {"role": "user", "content": "Hi <flush />", "name": "ann"}
    assert body["messages"][2] == TURN["messages"][2]
    assert body["messages"][3] == {"role": "tool", "tool_call_id": "c", "content": "ok"}


def test_what_vapi_does_with_a_tool_is_taken_off_too() -> None:
    function = {"name": "weather", "parameters": {"server": {"type": "string"}}, "strict": True}
    mine = {"type": "function", "function": function}
    vapis = {"async": False, "server": {"url": "canary", "secret": "canary"}, "messages": [{"content": "canary"}]}
    custom = {"type": "custom", "custom": {"name": "sql"}}
    assert made({"tools": [mine | vapis, custom, "odd"]})["tools"] == [mine, custom, "odd"]


def test_depth_and_spelling_are_kept() -> None:
    tools = b"[" * 500 + b"1.50e0" + b"]" * 500
    raw = (
        b'{"model":"m","messages":[{"role":"user" , "content":"caf\\u00e9","time":1}],"tools":'
        + tools
        + b',"stream":true}'
    )
    assert chat_body(raw, json.loads(raw), None) == raw.replace(b' , "content"', b',"content"').replace(
        b',"time":1', b""
    )


@pytest.mark.parametrize("sent", [{}, {"model": None}, {"model": ""}])
def test_the_usual_model_is_asked_where_vapi_names_none(sent: dict[str, Any]) -> None:
    assert made(sent | {"messages": []}, "fast/8b")["model"] == "fast/8b"
    assert "model" not in made(sent | {"messages": []}, None)
    assert made({"model": "own", "messages": []}, "fast/8b")["model"] == "own"


def test_a_second_model_is_left_for_its_reader_to_refuse() -> None:
    raw = b'{"model":"a","Model":"b","model":"c","messages":[]}'
    assert chat_body(raw, json.loads(raw), None).count(b'"model"') == 2
    assert b'"Model"' in chat_body(raw, json.loads(raw), None)


@pytest.mark.parametrize(
    ("sent", "stream"), [({}, True), ({"stream": None}, True), ({"stream": True}, True), ({"stream": False}, False)]
)
def test_a_stream_is_asked_for_unless_vapi_says_otherwise(sent: dict[str, Any], stream: bool) -> None:
    assert made({"model": "m", "messages": []} | sent)["stream"] is stream


def test_strange_messages_are_left_to_those_who_read_them() -> None:
    assert made({"model": "m", "messages": ["x", 7, {"role": "user", "time": 1}]})["messages"] == [
        "x",
        7,
        {"role": "user"},
    ]
    assert made({"model": "m", "messages": "x"})["messages"] == "x"


@pytest.mark.parametrize(
    ("call", "session"),
    [({"id": "a"}, "a"), ({"callId": "b"}, "b"), ({"id": 7}, None), ({}, None), ("x", None), (None, None)],
)
def test_a_telephone_call_is_a_session(call: Any, session: str | None) -> None:
    assert session_of({"call": call}) == session


def test_vapis_headers_stay_here() -> None:
    kept = (b"x-request-id", b"1")
    assert without_vapis([(b"x-vapi-secret", b"s"), kept, (b"x-vapi-signature", b"s")]) == [kept]
