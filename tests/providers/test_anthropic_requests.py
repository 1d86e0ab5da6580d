import pytest
from hypothesis import given, settings

from proxy.errors import SluiceError
from proxy.providers.anthropic import Anthropic
from proxy.providers.contract import Model
from tests.providers.orders import ASK, WEATHER, Json, changes, odd_fields, sent, target

CLAUDE = Anthropic()
SCHEMA = {"type": "object", "properties": {}, "additionalProperties": False}
CALLED: list[Json] = [
    *ASK,
    {"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "weather", "arguments": "{}"}}]},
    {"role": "tool", "tool_call_id": "a", "content": "sunny"},
]


def test_a_minimal_request_is_translated() -> None:
    assert sent(CLAUDE, {"max_tokens": 9, "stream": True}) == {
        "model": "m",
        "stream": True,
        "max_tokens": 9,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
    }
    assert changes(CLAUDE, {"max_tokens": 9}) == ()


def test_max_tokens_is_the_client_s_or_the_model_s_or_ours() -> None:
    assert sent(CLAUDE, {"max_completion_tokens": 7, "max_tokens": 9})["max_tokens"] == 7
    assert changes(CLAUDE, {"max_completion_tokens": 7, "max_tokens": 9}) == ("drop max_tokens",)
    assert sent(CLAUDE, {}, limits=Model("m", output=64_000))["max_tokens"] == 64_000
    assert sent(CLAUDE, {})["max_tokens"] == 4096
    assert sent(CLAUDE, {"thinking": {"type": "enabled", "budget_tokens": 10_000}})["max_tokens"] == 14_096
    assert changes(CLAUDE, {}) == ("default max_tokens",)


@pytest.mark.parametrize(
    "fields, part",
    [
        ({"temperature": 0.5}, {"temperature": 0.5}),
        ({"temperature": 1.7}, {"temperature": 1}),
        ({"top_p": 0.9, "top_k": 5}, {"top_p": 0.9, "top_k": 5}),
        ({"stop": "x"}, {"stop_sequences": ["x"]}),
        ({"stop": ["x", "y"]}, {"stop_sequences": ["x", "y"]}),
        ({"user": "u"}, {"metadata": {"user_id": "u"}}),
        ({"service_tier": "default"}, {"service_tier": "standard_only"}),
        ({"cache_control": {"type": "ephemeral"}}, {"cache_control": {"type": "ephemeral"}}),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}},
            {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
        ),
        ({"tools": [WEATHER], "tool_choice": "auto"}, {"tool_choice": {"type": "auto"}}),
        ({"tools": [WEATHER], "tool_choice": "required"}, {"tool_choice": {"type": "any"}}),
        ({"tools": [WEATHER], "tool_choice": "none"}, {"tool_choice": {"type": "none"}}),
        (
            {"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "weather"}}},
            {"tool_choice": {"type": "tool", "name": "weather"}},
        ),
        (
            {"tools": [WEATHER], "parallel_tool_calls": False},
            {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
        ),
        (
            {"tools": [WEATHER], "parallel_tool_calls": False, "tool_choice": "required"},
            {"tool_choice": {"type": "any", "disable_parallel_tool_use": True}},
        ),
        (
            {"tools": [WEATHER], "parallel_tool_calls": False, "tool_choice": "none"},
            {"tool_choice": {"type": "none"}},
        ),
    ],
)
def test_parameters_are_translated(fields: Json, part: Json) -> None:
    body = sent(CLAUDE, fields)
    assert {name: body.get(name) for name in part} == part


def test_tools_are_translated() -> None:
    tool = {
        "type": "function",
        "function": {"name": "f", "description": "d", "strict": True, "parameters": {"$defs": {}}},
    }
    assert sent(CLAUDE, {"tools": [WEATHER, tool]})["tools"] == [
        {"name": "weather", "input_schema": {"type": "object", "properties": {}}},
        {"name": "f", "input_schema": {"type": "object", "$defs": {}}, "description": "d", "strict": True},
    ]


def test_tools_of_earlier_calls_are_named_where_the_client_offers_none_any_more() -> None:
    """Else a 400, where OpenAI's own example of tools makes its second call without them."""
    fields: Json = {"max_tokens": 1, "messages": [*CALLED, *CALLED]}
    body = sent(CLAUDE, fields)
    assert body["tools"] == [{"name": "weather", "input_schema": {"type": "object", "properties": {}}}]
    assert body["tool_choice"] == {"type": "none"} and changes(CLAUDE, fields) == ("set tool_call_id", "set tools")
    assert "tools" not in sent(CLAUDE, {})


@pytest.mark.parametrize(
    "temperature, top_p, left, change",
    [
        (0.3, 0.9, {"temperature": 0.3}, "drop top_p"),
        (0.3, 1, {"temperature": 0.3}, "drop top_p"),
        (1, 0.9, {"top_p": 0.9}, "drop temperature"),
    ],
)
def test_of_temperature_and_top_p_one_is_sent(temperature: float, top_p: float, left: Json, change: str) -> None:
    fields = {"max_tokens": 1, "temperature": temperature, "top_p": top_p}
    body = sent(CLAUDE, fields)
    assert {name: body[name] for name in ("temperature", "top_p") if name in body} == left
    assert changes(CLAUDE, fields) == (change,)


def test_what_anthropic_has_not_is_dropped_and_said() -> None:
    fields = {
        "max_tokens": 1,
        "seed": 1,
        "logit_bias": {},
        "presence_penalty": 1,
        "temperature": 2,
        "metadata": {"a": "b"},
    }
    assert changes(CLAUDE, fields | {"tool_choice": "auto", "invented_tomorrow": 1, "logprobs": False, "n": 1}) == (
        "drop seed",
        "drop logit_bias",
        "drop presence_penalty",
        "clamp temperature",
        "drop metadata",
        "drop invented_tomorrow",
        "drop tool_choice",
    )


@pytest.mark.parametrize(
    "fields, param",
    [
        ({"n": 2}, "n"),
        ({"stop": ["x", "\n\n"]}, "stop"),
        ({"logprobs": True}, "logprobs"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"modalities": ["audio"]}, "modalities"),
        ({"functions": []}, "functions"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [WEATHER], "tool_choice": {"type": "allowed_tools"}}, "tool_choice"),
        ({"reasoning_effort": "silly"}, "reasoning_effort"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"thinking": True}, "thinking"),
    ],
)
def test_what_would_mean_something_else_is_refused_by_name(fields: Json, param: str) -> None:
    with pytest.raises(SluiceError) as caught:
        sent(CLAUDE, fields)
    assert (caught.value.status, caught.value.code, caught.value.param) == (400, "client_invalid_request", param)


@pytest.mark.parametrize(
    "effort, asked, limit, budget, room",
    [
        ("low", 10_000, None, 2048, 10_000),
        ("high", 100, None, 16384, 16484),
        ("high", 16384, None, 16384, 32768),
        ("high", 100, 8192, 8092, 8192),
        ("high", 8192, 8192, 4096, 8192),
        ("minimal", 1, None, 1024, 1025),
    ],
)
def test_effort_is_a_budget_below_max_tokens(
    effort: str, asked: int, limit: int | None, budget: int, room: int
) -> None:
    fields = {"reasoning_effort": effort, "max_tokens": asked}
    body = sent(CLAUDE, fields, limits=Model("m", output=limit))
    assert body["thinking"] == {"type": "enabled", "budget_tokens": budget}
    assert body["max_tokens"] == room and budget < room
    assert ("raise max_tokens" in changes(CLAUDE, fields, limits=Model("m", output=limit))) is (
        asked <= budget or room > asked
    )


def test_thinking_does_not_go_with_everything() -> None:
    fields = {"reasoning_effort": "low", "max_tokens": 9000}
    assert "thinking" not in sent(CLAUDE, fields | {"reasoning_effort": "none"})
    sampled = fields | {"temperature": 0.2, "top_p": 0.5, "top_k": 3}
    assert changes(CLAUDE, sampled) == ("drop temperature", "drop top_p", "drop top_k")
    assert changes(CLAUDE, fields | {"temperature": 1, "top_k": 3}) == ("drop top_k",)
    impossible: list[Json] = [
        {"tools": [WEATHER], "tool_choice": "required"},
        {"messages": [*ASK, {"role": "assistant", "content": "It"}]},
        {"messages": CALLED},
    ]
    for more in impossible:
        assert "thinking" not in sent(CLAUDE, fields | more)
        assert changes(CLAUDE, fields | more)[-1] == "drop reasoning_effort"
    signed = {"thinking_blocks": [{"type": "thinking", "thinking": "Hm", "signature": "s"}]}
    kept = [CALLED[0], CALLED[1] | signed, CALLED[2]]
    assert sent(CLAUDE, fields | {"messages": kept})["thinking"]["type"] == "enabled"
    small = Model("m", output=1100)
    assert changes(CLAUDE, fields | {"max_tokens": 100}, limits=small) == ("drop reasoning_effort",)


def test_thinking_of_the_client_s_own_wins() -> None:
    own = {"thinking": {"type": "enabled", "budget_tokens": 2000}, "max_tokens": 9000, "reasoning_effort": "high"}
    assert sent(CLAUDE, own)["thinking"] == own["thinking"]


def test_models_that_think_adaptively_get_an_effort() -> None:
    fields = {"reasoning_effort": "xhigh", "max_tokens": 10}
    known = Model("m", extra={"thinking": "adaptive"})
    for body in (sent(CLAUDE, fields, limits=known), sent(CLAUDE, fields, at=target(CLAUDE, thinking="adaptive"))):
        assert (body["thinking"], body["output_config"], body["max_tokens"]) == (
            {"type": "adaptive"},
            {"effort": "xhigh"},
            10,
        )
    for more in ({"messages": CALLED}, {"tools": [WEATHER], "tool_choice": "required"}):
        assert sent(CLAUDE, fields | more, limits=known)["thinking"] == {"type": "adaptive"}
    assert sent(CLAUDE, {"reasoning_effort": "none"}, limits=known)["thinking"] == {"type": "disabled"}
    assert "budget_tokens" in sent(CLAUDE, fields, limits=known, at=target(CLAUDE, thinking="enabled"))["thinking"]


def test_models_are_told_not_to_think_in_the_way_that_they_take() -> None:
    fields = {"reasoning_effort": "none", "max_tokens": 10}

    def told(**known: object) -> tuple[object, object, tuple[str, ...]]:
        limits = Model("m", extra={"thinking": "adaptive", **known})
        body = sent(CLAUDE, fields, limits=limits)
        return body.get("thinking"), body.get("output_config"), changes(CLAUDE, fields, limits=limits)

    assert told(off="disabled", efforts=("low", "high")) == ({"type": "disabled"}, None, ())
    assert told(off="between_tools") == ({"type": "between_tools"}, None, ())
    assert told(off=None, efforts=("low", "high")) == (None, {"effort": "low"}, ("raise reasoning_effort",))
    own = fields | {"output_config": {"effort": "high"}}
    always = Model("m", extra={"thinking": "adaptive", "off": None})
    assert sent(CLAUDE, own, limits=always)["output_config"] == {"effort": "high"}


@pytest.mark.parametrize(
    "asked, taken, level",
    [
        ("xhigh", ("low", "medium", "high", "max"), "high"),
        ("max", ("low", "medium", "high"), "high"),
        ("low", ("medium", "high"), "medium"),
        ("max", ("low", "medium", "high", "xhigh", "max"), "max"),
    ],
)
def test_an_effort_that_the_model_has_not_is_the_next_one(asked: str, taken: tuple[str, ...], level: str) -> None:
    fields = {"reasoning_effort": asked, "max_tokens": 10}
    known = Model("m", extra={"thinking": "adaptive", "efforts": taken})
    assert sent(CLAUDE, fields, limits=known)["output_config"] == {"effort": level}
    assert changes(CLAUDE, fields, limits=known) == (() if asked == level else ("clamp reasoning_effort",))


def test_a_model_that_cannot_think_is_not_asked_to() -> None:
    fields = {"reasoning_effort": "high", "max_tokens": 10, "temperature": 0.5}
    plain = Model("m", extra={"thinking": None, "off": "disabled"})
    assert changes(CLAUDE, fields, limits=plain) == ("drop reasoning_effort",)
    assert sent(CLAUDE, fields, limits=plain).keys() == {"model", "stream", "max_tokens", "temperature", "messages"}


def test_a_schema_and_an_effort_stand_together() -> None:
    shape = {"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}, "reasoning_effort": "low"}
    body = sent(CLAUDE, shape, at=target(CLAUDE, thinking="adaptive"))
    assert body["output_config"] == {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}}


def test_the_newer_api_has_no_sampling() -> None:
    at = target(CLAUDE, api_version="2026-10-21")
    assert changes(CLAUDE, {"max_tokens": 1, "temperature": 1, "top_k": 2}, at=at) == ("drop temperature", "drop top_k")


def test_models_without_sampling_are_not_sent_any() -> None:
    sampled = {"max_tokens": 1, "temperature": 0, "top_p": 0.5, "top_k": 3}
    fixed = Model("m", extra={"thinking": "adaptive", "sampling": False})
    assert changes(CLAUDE, sampled, limits=fixed) == ("drop top_p", "drop temperature", "drop top_k")
    assert not sent(CLAUDE, sampled, limits=fixed).keys() & sampled.keys() - {"max_tokens"}
    assert sent(CLAUDE, sampled, limits=Model("m", extra={"thinking": "adaptive"}))["temperature"] == 0


@given(odd_fields)
@settings(max_examples=200)
def test_a_body_of_any_shape_is_translated_or_refused(fields: Json) -> None:
    try:
        sent(CLAUDE, fields)
    except SluiceError as error:
        assert error.status == 400
