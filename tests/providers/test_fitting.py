import re
from typing import Any

import orjson
import pytest

from proxy.providers.registry import provider
from tests.providers.targets import order

ANSWERED = {"role": "assistant", "content": "y", "name": "n", "reasoning_content": "Hm", "thinking_blocks": []}
FOREIGN: list[dict[str, Any]] = [
    {"role": "user", "name": "Bob", "content": "Hi"},
    {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "annotations": [],
        "audio": None,
        "reasoning_content": "Hm",
        "tool_calls": [
            {"id": "call_PTLP8xhu3uwZk4l3nlnrrJha", "type": "function", "function": {"name": "f", "arguments": "{}"}},
            {"id": "D681PevKs", "type": "function", "function": {"name": "f", "arguments": "{}"}},
        ],
    },
    {"role": "tool", "name": "f", "tool_call_id": "call_PTLP8xhu3uwZk4l3nlnrrJha", "content": "1"},
    {"role": "tool", "name": "f", "tool_call_id": "D681PevKs", "content": "2"},
    {"role": "assistant", "content": None, "refusal": "No."},
]


def test_conversations_from_other_vendors_go_on_at_mistral() -> None:
    """Its schema knows no members but its own, and ids of nine letters."""
    at = provider("mistral", {})
    request = at.request(order(at, orjson.dumps({"temperature": 1, "messages": FOREIGN, "model": "m"})))
    assert request.body.startswith(b'{"temperature":1,"messages":[') and request.body.endswith(b'],"model":"m"}')
    user, called, first, second, refused = orjson.loads(request.body)["messages"]
    assert (user, refused) == ({"role": "user", "content": "Hi"}, {"role": "assistant", "content": "No."})
    assert called.keys() == {"role", "content", "tool_calls"}
    ids = [call["id"] for call in called["tool_calls"]]
    assert re.fullmatch("[a-zA-Z0-9]{9}", ids[0]) and ids[1] == "D681PevKs"
    assert [result["tool_call_id"] for result in (first, second)] == ids and first["name"] == "f"
    assert request.changes == (
        "drop name",
        "drop refusal",
        "drop annotations",
        "drop audio",
        "drop reasoning_content",
        "set tool_call_id",
    )


@pytest.mark.parametrize("name", ["groq", "mistral"])
def test_calls_hold_what_openai_calls_hold(name: str) -> None:
    """Gemini signs its calls, and the client of OpenAI notes the parsed arguments."""
    function = {"name": "f", "arguments": "{}"}
    call = {"id": "D681PevKs", "type": "function", "function": function}
    odd = call | {"extra_content": {"google": {}}, "function": function | {"parsed_arguments": None}}
    at = provider(name, {})
    body = orjson.dumps({"messages": [{"role": "assistant", "content": None, "tool_calls": [odd, 7]}]})
    request = at.request(order(at, body))
    assert orjson.loads(request.body)["messages"][0]["tool_calls"] == [call, 7]
    assert request.changes == ("drop tool_calls.extra_content", "drop tool_calls.function.parsed_arguments")
    assert provider("deepseek", {}).request(order(provider("deepseek", {}), body)).body == body


@pytest.mark.parametrize(
    ("name", "left", "changes"),
    [
        ("groq", [{"role": "developer", "content": "x"}, {"role": "assistant", "content": "y", "name": "n"}], True),
        ("deepseek", [{"role": "system", "content": "x"}, ANSWERED], False),
        ("mistral", [{"role": "system", "content": "x"}, {"role": "assistant", "content": "y"}], True),
        ("lmstudio", [{"role": "system", "content": "x"}, ANSWERED], False),
        ("openai", None, None),
    ],
)
def test_each_server_is_spared_what_it_refuses(name: str, left: list[Any] | None, changes: bool | None) -> None:
    """Groq knows no thoughts of others, DeepSeek no developer."""
    at = provider(name, {})
    body = orjson.dumps({"model": "m", "messages": [{"role": "developer", "content": "x"}, ANSWERED]})
    request = at.request(order(at, body))
    if left is None:
        assert request.body is body and request.changes == ()
        return
    assert orjson.loads(request.body)["messages"] == left
    assert ("drop thinking_blocks" in request.changes) is changes
    assert ("set role" in request.changes) is (left[0]["role"] == "system")


@pytest.mark.parametrize(
    ("name", "refused"),
    [
        ("gemini", ["refusal", "annotations", "audio", "reasoning", "reasoning_content", "thinking_blocks"]),
        ("fireworks", ["reasoning", "thinking_blocks"]),
    ],
)
def test_what_other_vendors_answer_with_is_left_out_where_it_is_refused(name: str, refused: list[str]) -> None:
    call = {"id": "c", "type": "function", "function": {}, "extra_content": {"google": {"thought_signature": "Eo8="}}}
    said = {"role": "assistant", "content": None, "tool_calls": [call]}
    at = provider(name, {})
    body = orjson.dumps({"messages": [said | dict.fromkeys(refused)]})
    request = at.request(order(at, body))
    assert orjson.loads(request.body)["messages"] == [said]  # a call keeps its signature
    assert request.changes == tuple(f"drop {member}" for member in refused)


@pytest.mark.parametrize("name", ["mistral", "openai", "gemini", "fireworks"])
def test_messages_that_need_no_fitting_pass_byte_for_byte(name: str) -> None:
    body = (
        b'{"model":"m","messages":[ {"role":"assistant","prefix":true,"invented_tomorrow":1,"content":[],'
        b'"audio":{"id":"a"},"tool_calls":[{"id":"D681PevKs","index":0},{"id":7},8,{}]},9,{"role":"tool","tool_call_id":null}]}'
    )
    at = provider(name, {})
    assert at.request(order(at, body)).body is body
