import json
from typing import Any

import pytest
from hypothesis import given, settings

from proxy.errors import SluiceError
from proxy.providers.contract import Model
from proxy.providers.ollama import Ollama
from proxy.providers.ollama_requests import ANSWER, DEFAULT_WINDOW, translate_messages
from tests.providers.orders import PIXEL, WEATHER, Json, changes, conversations, odd_fields, order, sent, target

OLLAMA = Ollama()


def test_only_what_the_client_sent_is_sent_and_nothing_is_cut_silently() -> None:
    assert sent(OLLAMA, {}) == {
        "model": "m",
        "stream": False,
        "truncate": False,
        "shift": False,
        "messages": [{"role": "user", "content": "Hi"}],
    }
    assert sent(OLLAMA, {"stream": True, "stream_options": {"include_usage": True}})["stream"] is True


def test_sampling_parameters_become_options() -> None:
    fields = {"max_tokens": 5, "temperature": 0, "top_p": 0.5, "seed": 1, "stop": "x", "top_k": 3, "min_p": 0.1}
    more = {"frequency_penalty": 1, "presence_penalty": 2, "repeat_penalty": 1.1, "num_ctx": 2048, "logit_bias": None}
    assert sent(OLLAMA, fields | more)["options"] == {
        "num_predict": 5,
        "temperature": 0,
        "top_p": 0.5,
        "seed": 1,
        "stop": ["x"],
        "top_k": 3,
        "min_p": 0.1,
        "frequency_penalty": 1,
        "presence_penalty": 2,
        "repeat_penalty": 1.1,
        "num_ctx": 2048,
    }


def test_the_newer_name_of_max_tokens_wins_and_native_options_win_over_both() -> None:
    both = {"max_completion_tokens": 7, "max_tokens": 5}
    assert sent(OLLAMA, both)["options"] == {"num_predict": 7}
    assert changes(OLLAMA, both) == ("drop max_tokens",)
    assert sent(OLLAMA, both | {"options": {"num_predict": 9, "mirostat": 1}})["options"] == {
        "num_predict": 9,
        "mirostat": 1,
    }


def test_ollamas_own_parameters_pass() -> None:
    extras = {"keep_alive": -1, "think": "high", "format": {"type": "object"}, "truncate": True, "shift": True}
    assert extras.items() <= sent(OLLAMA, extras | {"reasoning_effort": "low"}).items()


def test_the_configured_keep_alive_stands_in_where_the_client_sent_none() -> None:
    at = target(OLLAMA, keep_alive="1h")
    assert sent(OLLAMA, {}, at=at)["keep_alive"] == "1h"
    assert sent(OLLAMA, {"keep_alive": 0}, at=at)["keep_alive"] == 0


@pytest.mark.parametrize(
    "need, limit, usual, window",
    [
        (100, 8192, None, None),
        (4096, 8192, None, None),
        (4097, 100_000, None, 8192),
        (8192, 100_000, None, 8192),
        (9000, 100_000, None, 16384),
        (9000, 10_000, None, 10_000),
        (20_000, None, None, 32768),
        (100, 8192, 16384, 16384),
        (20_000, 100_000, 16384, 32768),
        (3000, None, 2048, 4096),
    ],
)
def test_the_window_grows_with_the_need_in_stable_steps(
    need: int, limit: int | None, usual: int | None, window: int | None
) -> None:
    at = target(OLLAMA, num_ctx=usual) if usual else target(OLLAMA)
    asked = order(OLLAMA, {"max_tokens": 1}, at=at, limits=Model("m", context=limit), need=need)
    request = OLLAMA.request(asked)
    assert (b'"num_ctx":%d' % window in request.body) if window else b"num_ctx" not in request.body
    assert ("set num_ctx" in request.changes) is (window is not None)


@pytest.mark.parametrize(
    "need, own, usual, window",
    [
        (100, 32768, None, None),
        (20_000, 32768, None, None),
        (40_000, 32768, None, 65536),
        (9000, 12_000, None, None),
        (13_000, 12_000, None, 16384),
        (3000, 2048, None, 4096),
        (9000, 32768, 8192, 16384),
    ],
)
def test_the_window_of_a_modelfile_stays_while_it_will_do(
    need: int, own: int, usual: int | None, window: int | None
) -> None:
    at = target(OLLAMA, num_ctx=usual) if usual else target(OLLAMA)
    model = Model("m", context=100_000, extra={"num_ctx": own})
    asked = OLLAMA.request(order(OLLAMA, {"max_tokens": 1}, at=at, limits=model, need=need))
    assert json.loads(asked.body)["options"].get("num_ctx") == window


@pytest.mark.parametrize(
    "need, window",
    [(DEFAULT_WINDOW - ANSWER, None), (DEFAULT_WINDOW - ANSWER + 1, 8192), (DEFAULT_WINDOW, 8192), (8000, 16384)],
)
def test_an_answer_without_a_limit_is_left_some_room(need: int, window: int | None) -> None:
    assert sent(OLLAMA, {}, need=need).get("options") == ({"num_ctx": window} if window else None)
    assert "options" not in sent(OLLAMA, {"input": "x"}, "embeddings", need=DEFAULT_WINDOW)


def test_a_window_of_the_client_s_own_stays() -> None:
    assert sent(OLLAMA, {"options": {"num_ctx": 512}}, need=9000)["options"] == {"num_ctx": 512}


@pytest.mark.parametrize(
    "effort, think",
    [("none", False), ("minimal", "low"), ("low", "low"), ("medium", "medium"), ("high", "high"), ("xhigh", "max")],
)
def test_reasoning_effort_becomes_think(effort: str, think: bool | str) -> None:
    assert sent(OLLAMA, {"reasoning_effort": effort})["think"] == think
    assert sent(OLLAMA, {"reasoning": {"effort": effort}})["think"] == think


def test_a_model_that_cannot_think_is_not_asked_to() -> None:
    plain = Model("m", extra={"capabilities": ("completion",)})
    for fields, change in (
        ({"reasoning_effort": "high"}, "drop reasoning_effort"),
        ({"reasoning": {"effort": "high"}}, "drop reasoning.effort"),
    ):
        assert "think" not in sent(OLLAMA, fields, limits=plain)
        assert changes(OLLAMA, fields, limits=plain) == (change,)
    assert sent(OLLAMA, {"reasoning_effort": "none"}, limits=plain)["think"] is False
    thinks = Model("m", extra={"capabilities": ("completion", "thinking")})
    assert sent(OLLAMA, {"reasoning_effort": "high"}, limits=thinks)["think"] == "high"


def test_structured_output_is_format() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    described = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    assert sent(OLLAMA, {"response_format": described})["format"] == schema
    assert sent(OLLAMA, {"response_format": {"type": "json_object"}})["format"] == "json"
    assert "format" not in sent(OLLAMA, {"response_format": {"type": "text"}})


def test_what_ollama_has_not_is_dropped_and_said() -> None:
    fields = {"logit_bias": {"1": 2}, "user": "u", "metadata": {}, "store": True, "parallel_tool_calls": False}
    assert changes(OLLAMA, fields | {"tool_choice": "auto", "invented_tomorrow": 1}) == (
        "drop logit_bias",
        "drop user",
        "drop metadata",
        "drop store",
        "drop parallel_tool_calls",
        "drop tool_choice",
        "drop invented_tomorrow",
    )
    assert changes(OLLAMA, {"n": 1, "modalities": ["text"], "user": None}) == ()


def test_no_tools_are_offered_where_none_may_be_called() -> None:
    fields = {"tools": [WEATHER], "tool_choice": "none"}
    assert "tools" not in sent(OLLAMA, fields)
    assert changes(OLLAMA, fields) == ("drop tool_choice", "drop tools")
    assert sent(OLLAMA, {"tools": [WEATHER]})["tools"] == [WEATHER]


def _content(*parts: Json) -> Json:
    return {"messages": [{"role": "user", "content": list(parts)}]}


@pytest.mark.parametrize(
    "fields, param",
    [
        ({"messages": []}, "messages"),
        ({"n": 2}, "n"),
        ({"tools": [WEATHER], "tool_choice": "required"}, "tool_choice"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "weather"}}}, "tool_choice"),
        ({"tools": [{"type": "custom"}]}, "tools[0].type"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"audio": {"voice": "x"}}, "audio"),
        ({"functions": []}, "functions"),
        ({"reasoning_effort": "silly"}, "reasoning_effort"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"temperature": "hot"}, "temperature"),
        ({"messages": "Hi"}, "messages"),
        ({"messages": [{"role": "wizard", "content": ""}]}, "messages[0].role"),
        (_content({"type": "image_url", "image_url": {"url": "http://x/y.png"}}), "messages[0].content[0].image_url"),
        (_content({"type": "image_url", "image_url": {"url": "data:image/png,x"}}), "messages[0].content[0].image_url"),
        (_content({"type": "input_audio", "input_audio": {}}), "messages[0].content[0]"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}]},
            "messages[0].tool_calls[0].function.arguments",
        ),
    ],
)
def test_what_would_mean_something_else_is_refused_by_name(fields: Json, param: str) -> None:
    with pytest.raises(SluiceError) as caught:
        sent(OLLAMA, fields)
    assert (caught.value.status, caught.value.code, caught.value.param) == (400, "client_invalid_request", param)


def test_a_conversation_with_images_tools_and_thoughts() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Rome"}'}}
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
    messages = [
        {"role": "developer", "content": "Be brief"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, image, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": None, "tool_calls": [call], "reasoning": "Hm"},
        {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "sunny"}]},
    ]
    assert list(translate_messages({"messages": messages}, [])) == [
        {"role": "system", "content": "Be brief"},
        {"role": "user", "content": "a\nb", "images": [PIXEL]},
        {
            "role": "assistant",
            "content": "",
            "thinking": "Hm",
            "tool_calls": [{"id": "c1", "function": {"name": "weather", "arguments": {"city": "Rome"}}}],
        },
        {"role": "tool", "content": "sunny", "tool_name": "weather", "tool_call_id": "c1"},
    ]


@given(conversations)
@settings(max_examples=60)
def test_any_conversation_keeps_its_meaning(messages: list[Json]) -> None:
    found = list(translate_messages({"messages": messages}, []))
    assert len(found) == len(messages)
    for ours, theirs in zip(messages, found, strict=True):
        assert theirs["role"] == ("system" if ours["role"] == "developer" else ours["role"])
        parts: list[Any] = ours["content"] if isinstance(ours["content"], list) else [{"text": ours["content"] or ""}]
        assert theirs["content"] == "\n".join(part["text"] for part in parts if "text" in part)
        assert len(theirs.get("images", [])) == sum("image_url" in part for part in parts)
        calls = [(call["id"], call["function"]["arguments"]) for call in theirs.get("tool_calls", ())]
        assert calls == [(call["id"], json.loads(call["function"]["arguments"])) for call in ours.get("tool_calls", ())]
        if ours["role"] == "tool":
            assert (theirs["tool_call_id"], theirs["tool_name"]) == (ours["tool_call_id"], "weather")


@pytest.mark.parametrize("endpoint", ["chat/completions", "completions", "embeddings"])
@given(fields=odd_fields)
@settings(max_examples=120)
def test_a_body_of_any_shape_is_translated_or_refused(endpoint: str, fields: Json) -> None:
    try:
        sent(OLLAMA, fields, endpoint)
    except SluiceError as error:
        assert error.status == 400


def test_legacy_completions_go_to_api_generate() -> None:
    asked = order(OLLAMA, {"prompt": ["def f("], "suffix": ")", "max_tokens": 3}, "completions")
    request = OLLAMA.request(asked)
    assert request.path == "/api/generate"
    assert sent(OLLAMA, {"prompt": ["def f("], "suffix": ")", "max_tokens": 3}, "completions") == {
        "model": "m",
        "stream": False,
        "truncate": False,
        "shift": False,
        "prompt": "def f(",
        "suffix": ")",
        "options": {"num_predict": 3},
    }


@pytest.mark.parametrize(
    "fields", [{"prompt": ["a", "b"]}, {"prompt": [1]}, {"prompt": ""}, {"echo": True}, {"logprobs": 2}]
)
def test_completions_that_cannot_be_are_refused(fields: Json) -> None:
    with pytest.raises(SluiceError, match="client_invalid_request"):
        sent(OLLAMA, {"prompt": "x"} | fields, "completions")


def test_embeddings_are_never_of_a_part_of_the_text() -> None:
    fields = {"input": ["a", "b"], "dimensions": 8, "encoding_format": "base64", "user": "u"}
    request = OLLAMA.request(order(OLLAMA, fields, "embeddings"))
    assert (request.path, request.changes) == ("/api/embed", ("drop user",))
    assert sent(OLLAMA, fields, "embeddings") == {
        "model": "m",
        "truncate": False,
        "input": ["a", "b"],
        "dimensions": 8,
    }
    with pytest.raises(SluiceError, match="not tokens"):
        sent(OLLAMA, {"input": [1, 2]}, "embeddings")
