import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings

from proxy.errors import SluiceError
from proxy.providers.anthropic_messages import converse
from tests.providers.orders import PIXEL, Json, conversations


def turns(*messages: Json) -> list[Json]:
    return converse({"messages": list(messages)}).turns


def user(*parts: Json) -> Json:
    return {"role": "user", "content": list(parts)}


def call(id: str, arguments: str = "{}") -> Json:
    return {"id": id, "type": "function", "function": {"name": "weather", "arguments": arguments}}


def test_system_messages_go_to_the_system_field() -> None:
    found = converse(
        {
            "messages": [
                {"role": "system", "content": "a"},
                {"role": "user", "content": "Hi"},
                {"role": "developer", "content": [{"type": "text", "text": "b"}]},
            ]
        }
    )
    assert found.system_field() == "a\n\nb"
    assert found.turns == [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]
    assert found.changes == ["move system"]


def test_cache_control_stays_where_it_stood() -> None:
    marked = {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}
    found = converse({"messages": [{"role": "system", "content": [marked]}, user(marked)]})
    assert found.system_field() == [marked]
    assert found.turns == [{"role": "user", "content": [marked]}]


def test_what_one_side_says_in_a_row_is_one_turn_and_empty_texts_are_left_out() -> None:
    found = turns(
        user({"type": "text", "text": "a"}), {"role": "user", "content": "b"}, {"role": "user", "content": ""}
    )
    assert found == [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]


def test_all_results_of_a_turn_stand_first_in_one_message() -> None:
    found = turns(
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Let me see", "tool_calls": [call("a.1", '{"x":1}'), call("b")]},
        {"role": "tool", "tool_call_id": "a.1", "content": "sunny"},
        {"role": "user", "content": "and?"},
        {"role": "tool", "tool_call_id": "b", "content": [{"type": "text", "text": "rain"}]},
    )
    assert [turn["role"] for turn in found] == ["user", "assistant", "user"]
    assert found[1]["content"] == [
        {"type": "text", "text": "Let me see"},
        {"type": "tool_use", "id": "a_1", "name": "weather", "input": {"x": 1}},
        {"type": "tool_use", "id": "b", "name": "weather", "input": {}},
    ]
    assert found[2]["content"] == [
        {"type": "tool_result", "tool_use_id": "a_1", "content": "sunny"},
        {"type": "tool_result", "tool_use_id": "b", "content": "rain"},
        {"type": "text", "text": "and?"},
    ]


def test_ids_that_anthropic_would_refuse_are_made_its_own_and_stay_apart() -> None:
    """Other providers write `functions.look:0`, and begin to count anew in each turn."""
    turn: list[Json] = [
        {"role": "assistant", "tool_calls": [call("look.0"), call("look:0")]},
        {"role": "tool", "tool_call_id": "look:0", "content": "second"},
        {"role": "tool", "tool_call_id": "look.0", "content": "first"},
    ]
    said = converse({"messages": [{"role": "user", "content": "Hi"}, *turn, *turn]})
    assert said.changes == ["set tool_call_id"]
    calls = [[block["id"] for block in turn["content"]] for turn in said.turns if turn["role"] == "assistant"]
    results = [
        {block["content"]: block["tool_use_id"] for block in turn["content"]}
        for turn in said.turns[1:]
        if turn["role"] == "user"
    ]
    assert calls == [["look_0", "look_0_2"], ["look_0_3", "look_0_4"]]
    assert results == [{"first": first, "second": second} for first, second in calls]


def test_images_and_files_become_blocks() -> None:
    data = f"data:image/jpg;base64,{PIXEL}"
    text = base64.b64encode("über".encode()).decode()
    found = turns(
        user(
            {"type": "image_url", "image_url": {"url": data}},
            {"type": "image_url", "image_url": "https://x/y.png"},
            {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{PIXEL}", "filename": "a.pdf"}},
            {"type": "file", "file": {"file_data": f"data:text/plain;charset=utf-8;base64,{text}"}},
        )
    )
    assert found[0]["content"] == [
        {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": PIXEL}},
        {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}},
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": PIXEL},
            "title": "a.pdf",
        },
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "über"}},
    ]


def test_an_image_in_a_tool_result() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://x/y.png"}}
    found = turns({"role": "tool", "tool_call_id": "a", "content": [image]})
    assert found[0]["content"][0]["content"] == [{"type": "image", "source": {"type": "url", "url": "https://x/y.png"}}]


def test_thoughts_go_back_with_their_signature_or_not_at_all() -> None:
    thought = {"type": "thinking", "thinking": "Hm", "signature": "sig"}
    hidden = {"type": "redacted_thinking", "data": "xyz"}
    message = {"role": "assistant", "content": "Hi", "reasoning_content": "Hm", "thinking_blocks": [thought, hidden]}
    found = converse({"messages": [{"role": "user", "content": "x"}, message, {"role": "user", "content": "y"}]})
    assert found.turns[1]["content"] == [thought, hidden, {"type": "text", "text": "Hi"}]
    assert found.changes == []
    for blocks in (None, 5, [{"type": "thinking", "thinking": "Hm"}], [{"type": []}, 1]):
        odd = message | {"thinking_blocks": blocks}
        found = converse({"messages": [{"role": "user", "content": "x"}, odd, {"role": "user", "content": "y"}]})
        assert found.turns[1]["content"] == [{"type": "text", "text": "Hi"}]
        assert found.changes == ["drop reasoning_content"]


def test_a_prefill_ends_without_blanks() -> None:
    found = converse({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "It is \n"}]})
    assert found.prefilled and found.turns[-1]["content"] == [{"type": "text", "text": "It is"}]
    assert found.changes == ["trim content"]


def test_an_assistant_that_speaks_first_is_spoken_to_first() -> None:
    """As in every telephone call that begins with a greeting."""
    greeting = {"role": "assistant", "content": "How can I help?"}
    found = converse({"messages": [{"role": "system", "content": "s"}, greeting, {"role": "user", "content": "x"}]})
    assert [turn["role"] for turn in found.turns] == ["user", "assistant", "user"]
    assert found.turns[0]["content"] == [{"type": "text", "text": "."}] and found.changes == ["add user"]


def test_a_prefill_of_blanks_alone_is_none() -> None:
    found = converse({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": " \n"}]})
    assert not found.prefilled and len(found.turns) == 1


@pytest.mark.parametrize(
    "message, param",
    [
        (user({"type": "input_audio"}), "messages[0].content[0]"),
        (user({"type": "file", "file": {"file_id": "file-1"}}), "messages[0].content[0].file"),
        (
            user({"type": "file", "file": {"file_data": "data:text/plain;base64,!!!"}}),
            "messages[0].content[0].file.file_data",
        ),
        (user({"type": "image_url", "image_url": {}}), "messages[0].content[0].image_url"),
        ({"role": "function", "content": ""}, "messages[0].role"),
        ({"role": "tool", "content": "x"}, "messages[0].tool_call_id"),
        ({"role": "assistant", "tool_calls": [call("")]}, "messages[0].tool_calls[0].id"),
        ({"role": "assistant", "tool_calls": [call("a", "[1]")]}, "messages[0].tool_calls[0].function.arguments"),
        ({"role": "system", "content": "only"}, "messages"),
        ({"role": "user", "content": ""}, "messages"),
    ],
)
def test_what_cannot_be_said_is_refused_by_place(message: Json, param: str) -> None:
    with pytest.raises(SluiceError) as caught:
        turns(message)
    assert (caught.value.status, caught.value.param) == (400, param)


def _back(found: Any) -> list[tuple[Any, ...]]:
    """Anthropic's turns as what OpenAI's messages mean: a list of things said, in order."""
    things: list[tuple[Any, ...]] = []
    for turn in found.turns:
        for block in turn["content"]:
            if block["type"] == "text":
                things.append((turn["role"], block["text"]))
            elif block["type"] == "image":
                things.append((turn["role"], "image", block["source"]["data"]))
            elif block["type"] == "tool_use":
                things.append(("call", block["id"], block["name"], block["input"]))
            else:
                things.append(("result", block["tool_use_id"], block["content"]))
    return things


def _meant(messages: list[Json]) -> list[tuple[Any, ...]]:
    things: list[tuple[Any, ...]] = []
    for message in messages:
        content = message["content"]
        if message["role"] == "tool":
            things.append(("result", message["tool_call_id"], content))
            continue
        for part in content if isinstance(content, list) else [{"text": content}] if content else []:
            things.append((message["role"], part["text"]) if "text" in part else (message["role"], "image", PIXEL))
        for one in message.get("tool_calls", ()):
            function = one["function"]
            things.append(("call", one["id"], function["name"], json.loads(function["arguments"])))
    return things


@given(conversations)
@settings(max_examples=80)
def test_any_conversation_keeps_its_meaning(messages: list[Json]) -> None:
    found = converse({"messages": messages})
    spoken = [message for message in messages if message["role"] not in ("system", "developer")]
    told = [message["content"] for message in messages if message["role"] in ("system", "developer")]
    assert found.system_field() == "\n\n".join(told)
    assert _back(found) == _meant(spoken)
    assert [turn["role"] for turn in found.turns] == (["user", "assistant"] * len(found.turns))[: len(found.turns)]
