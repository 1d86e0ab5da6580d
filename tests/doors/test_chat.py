"""The short form of a chat body and what it expands to."""

import json
from typing import Any

import pytest

from proxy.doors.chat import expand_short_form
from proxy.errors import SluiceError


def spelled(body: Any, first: str | None = "up/first") -> Any:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return json.loads(expand_short_form(raw, json.loads(raw), lambda: first))


def test_a_chat_completions_body_is_not_touched() -> None:
    raw = b'{ "messages":[ ], "message":"x", "persona":"p" }'
    assert expand_short_form(raw, json.loads(raw), lambda: None) is raw


def test_the_message_follows_the_conversation() -> None:
    before = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert spelled({"message": "c", "model": "m", "conversation": before}) == {
        "model": "m",
        "messages": [*before, {"role": "user", "content": "c"}],
    }
    assert spelled({"message": "c", "model": "m", "conversation": []})["messages"] == [{"role": "user", "content": "c"}]


@pytest.mark.parametrize(
    ("chosen", "model"),
    [
        ({"persona": "pirate", "model": "m"}, "persona/pirate"),
        ({"persona": "", "model": "m"}, "m"),
        ({"persona": None, "model": None}, "up/first"),
        ({"model": ""}, "up/first"),
        ({}, "up/first"),
    ],
)
def test_persona_before_model_before_the_first_one(chosen: dict[str, Any], model: str) -> None:
    assert spelled({"message": "hi", **chosen})["model"] == model


def test_other_fields_pass_as_they_came() -> None:
    raw = b'{"message":"hi","stream":true,"temperature":0.70,"later":{"x":[1e2]}}'
    assert expand_short_form(raw, json.loads(raw), lambda: "m").endswith(
        b'"stream":true,"temperature":0.70,"later":{"x":[1e2]}}'
    )


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "message"),
        ({"message": ""}, "message"),
        ({"message": ["hi"]}, "message"),
        ({"message": "hi", "model": 7}, "model"),
        ({"message": "hi", "persona": 7}, "persona"),
        ({"message": "hi", "conversation": "x"}, "conversation"),
        ({"message": "hi", "conversation": ["x"]}, "conversation"),
        (b'{"message":"hi","model":"a","model":"b"}', "model"),
        (b'{"message":"hi","model":"a","Model":"b"}', "model"),
    ],
)
def test_what_is_wrong_is_named(body: Any, param: str) -> None:
    with pytest.raises(SluiceError) as caught:
        spelled(body)
    assert (caught.value.status, caught.value.param) == (400, param)


def test_without_any_known_model_one_must_be_named() -> None:
    with pytest.raises(SluiceError, match="no model that is known"):
        spelled({"message": "hi"}, None)
