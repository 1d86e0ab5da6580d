"""A target is asked only for what it can answer, and gets what the route's rules made of the call."""

from typing import Any

import orjson
import pytest

from proxy.errors import SluiceError
from proxy.providers.contract import Model, Order
from proxy.stages.explaining import explain, shown_whole
from tests.stages.planned import call, planned

PLAN = planned("""
upstreams:
  east: {provider: openai, base_url: "http://127.0.0.1:1/v1", limits: {small: {context: 100, output: 10}}}
  closed: {provider: openai, base_url: "http://127.0.0.1:1/v1", models: [one]}
  local: {provider: ollama, base_url: "http://127.0.0.1:2"}
  off: {provider: openrouter}
  cpp: {provider: llamacpp, base_url: "http://127.0.0.1:3"}
  router: {provider: openrouter, api_key: sk-or, limits: {small: {context: 100, output: 10}}}
default_upstream: east
routes:
  - {prefix: ruled-, to: "east/{model}", request: {set: {temperature: 0.5}, remove: [metadata], headers: {set: {x-a: b}}}}
  - {model: house, to: [off/x, closed/one, east/small]}
""")


def ordered(model: str, endpoint: str = "chat/completions", **fields: object) -> Order:
    made = call({"model": model, **fields}, endpoint)
    choice = PLAN.router.choose(made)
    return PLAN.screen.prepare(made, choice.route).order(choice.targets[0])


def refused(model: str, endpoint: str = "chat/completions", **fields: object) -> SluiceError:
    with pytest.raises(SluiceError) as raised:
        ordered(model, endpoint, **fields)
    assert raised.value.again == "next"  # another target may be able to
    return raised.value


def test_each_reason_has_its_own_code() -> None:
    assert refused("off/x").code == "upstream_not_configured"
    assert refused("closed/on").code == "model_not_found"
    assert "Did you mean one?" in refused("closed/on").message
    assert refused("local/x", "audio/speech", input="x").code == "endpoint_not_supported"
    assert refused("east/small", max_tokens=11).code == "context_length_exceeded"
    assert refused("east/small", messages=[{"role": "user", "content": "x" * 2000}]).code == "context_length_exceeded"
    assert ordered("east/small", max_tokens=10).need > 10
    assert ordered("east/unknown", max_tokens=10**9).body


@pytest.mark.parametrize(
    ("model", "asked"),
    [
        (Model("m", context=100), {"messages": [{"role": "user", "content": "x" * 2000}]}),
        (Model("m", output=10), {"max_tokens": 11}),
        (Model("m", inputs=("text",)), {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}),
        (Model("m", tools=False), {"tools": [{"type": "function"}]}),
    ],
    ids=["context", "output", "inputs", "tools"],
)
def test_one_known_limit_is_enough_to_refuse_what_exceeds_it(model: Model, asked: dict[str, Any]) -> None:
    plan = planned("upstreams: {east: {provider: openai, base_url: 'http://127.0.0.1:1/v1'}}")
    made = call({"model": "east/m", **asked})
    choice = plan.router.choose(made)
    assert plan.screen.prepare(made, choice.route).order(choice.targets[0]).body
    plan.catalog.shelves["east"].take([model])
    with pytest.raises(SluiceError, match="The (model|prompt)|max_tokens"):
        plan.screen.prepare(made, choice.route).order(choice.targets[0])


@pytest.mark.parametrize(
    "more",
    [
        {"models": ["other"]},
        {"transforms": ["middle-out"]},
        {"plugins": [{"id": "web"}, {"id": "context-compression"}]},
        {"plugins": [{"id": "context-compression", "enabled": True}]},
    ],
)
def test_openrouter_is_asked_for_what_is_too_much_where_it_was_told_what_to_do_then(more: dict[str, Any]) -> None:
    long = [{"role": "user", "content": "x" * 2000}]
    assert ordered("router/small", messages=long, **more).body
    if "models" in more:
        assert ordered("router/small", max_tokens=11, **more).body
    else:
        assert refused("router/small", max_tokens=11, **more).param == "max_tokens"
    assert refused("east/small", messages=long, **more).code == "context_length_exceeded"


@pytest.mark.parametrize(
    "more",
    [{}, {"models": []}, {"transforms": []}, {"transforms": "middle-out"}, {"plugins": ["context-compression"]},
     {"plugins": [{"id": "context-compression", "enabled": False}]}],
)  # fmt: skip
def test_else_it_is_refused_as_by_any_other(more: dict[str, Any]) -> None:
    long = [{"role": "user", "content": "x" * 2000}]
    assert refused("router/small", messages=long, **more).code == "context_length_exceeded"


def test_only_the_models_name_is_exchanged_where_no_rule_is() -> None:
    body = b'{ "stream":false,"model" : "east/x","n":1.0, "messages":[ ],"z":"\\u00e9" }'
    made = call(body)
    choice = PLAN.router.choose(made)
    order = PLAN.screen.prepare(made, choice.route).order(choice.targets[0])
    assert order.body == body.replace(b'"east/x"', b'"x"')


def test_rules_are_applied_and_reported() -> None:
    made = call({"model": "ruled-x", "metadata": {}}, authorization="Bearer sk-client", x_kept="1")
    choice = PLAN.router.choose(made)
    prepared = PLAN.screen.prepare(made, choice.route)
    order = prepared.order(choice.targets[0])
    fields = orjson.loads(order.body)
    assert (fields["temperature"], fields["model"], "metadata" in fields) == (0.5, "ruled-x", False)
    assert prepared.changes == ("set temperature", "remove metadata", "header set x-a")
    names = dict(order.headers)
    assert names[b"x-a"] == b"b"
    assert names[b"x-kept"] == b"1"
    assert b"authorization" not in names
    assert made.fields["metadata"] == {}  # the call itself stays as it came


@pytest.mark.parametrize(
    ("passed", "line"), [(None, b"sluice-"), (b"other", b"other, sluice-"), (b"a, b", b"a, b, sluice-")]
)
def test_the_way_through_proxies_is_passed_on(passed: bytes | None, line: bytes) -> None:
    made = call({"model": "east/x"})
    if passed is not None:
        made.headers, made.passed = [(b"cdn-loop", passed)], passed
    choice = PLAN.router.choose(made)
    order = PLAN.screen.prepare(made, choice.route).order(choice.targets[0])
    (told,) = [value for name, value in order.headers if name == b"cdn-loop"]
    assert told.startswith(line)


@pytest.mark.parametrize("asked", [True, False])
def test_usage_is_asked_for_in_streams(asked: bool) -> None:
    options = {"include_usage": True} if asked else None
    streamed = orjson.loads(ordered("east/x", stream=True, stream_options=options).body)
    assert streamed["stream_options"] == {"include_usage": True}
    assert "stream_options" not in orjson.loads(ordered("east/x").body)


@pytest.mark.parametrize("endpoint", ["chat/completions", "completions"])
def test_llamacpp_is_asked_by_stream_for_whole_answers_too(endpoint: str) -> None:
    order = ordered("cpp/x", endpoint, prompt="x")
    asked = orjson.loads(order.body)
    assert (order.stream, asked["stream"], asked["stream_options"]) == (True, True, {"include_usage": True})
    assert not ordered("cpp/x", "responses", input="x").stream


def test_explain_says_of_each_target_what_a_call_would_meet() -> None:
    said = explain(PLAN.router, PLAN.screen, call({"model": "house", "max_tokens": 11}))
    assert (said["route"], said["beaten"]) == ("house", ["default"])
    usable = [(target["upstream"], target["usable"]) for target in said["targets"]]
    assert usable == [("off", False), ("closed", True), ("east", False)]
    off, closed, east = said["targets"]
    assert "OPENROUTER_API_KEY" in off["reason"]
    assert closed["body"]["model"] == "one"
    assert east["limits"] == {"context": 100, "output": 10}
    assert "11" in east["reason"]


def test_explain_names_every_route_that_was_beaten_once() -> None:
    said = explain(PLAN.router, PLAN.screen, call({"model": "ruled-x"}))
    assert (said["route"], said["beaten"]) == ("ruled-", ["default"])
    assert said["targets"][0]["changes"][:2] == ["set temperature", "header set x-a"]


def test_a_body_too_deep_to_be_shown_is_not_shown() -> None:
    deep = b'{"model":"east/x","messages":[],"x":' + b"[" * 400 + b"]" * 400 + b"}"
    (target,) = explain(PLAN.router, PLAN.screen, call(deep))["targets"]
    assert (target["usable"], target["body"]) == (True, None)


def test_routes_can_be_shown_whole() -> None:
    shown = {each["name"]: each for each in map(shown_whole, PLAN.router.routes)}
    assert [target["model"] for target in shown["house"]["targets"]] == ["x", "one", "small"]
    assert not shown["east/"]["written"]
