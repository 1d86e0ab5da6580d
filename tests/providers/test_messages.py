import pytest

from proxy.errors import SluiceError
from proxy.providers.anthropic import Anthropic
from proxy.providers.contract import Provider
from proxy.providers.messages import Data, data_url, fields_of, leftover, plain, strings, tool_calls
from proxy.providers.ollama import Ollama
from proxy.providers.registry import provider
from tests.doubles.ollama import OllamaDouble
from tests.doubles.openai import OpenAIDouble
from tests.providers.orders import ASK, PIXEL, WEATHER, Json, changes, order, sent
from tests.running import sluice

both = pytest.mark.parametrize("translating", [Anthropic(), Ollama()], ids=["anthropic", "ollama"])


@pytest.mark.parametrize(
    "url, found",
    [
        ("data:image/png;base64,aGk=", Data("image/png", "aGk=")),
        ("DATA:Image/PNG;charset=x;base64,aGk=", Data("image/png", "aGk=")),
        ("https://x/y", "https://x/y"),
    ],
)
def test_data_urls_are_parsed(url: str, found: Data | str) -> None:
    assert data_url(url, "p") == found


@pytest.mark.parametrize("url", ["data:,hi", "data:image/png,hi", "data:;base64,hi", "data:"])
def test_data_urls_that_hold_no_base64(url: str) -> None:
    with pytest.raises(SluiceError) as caught:
        data_url(url, "messages[0]")
    assert (caught.value.code, caught.value.param) == ("client_invalid_request", "messages[0]")


def test_text_parts_are_joined_and_others_refused() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "refusal", "refusal": "b"}]
    assert plain({"content": parts}, "m") == "a\nb"
    assert (plain({"content": None}, "m"), plain({"content": "x"}, "m")) == ("", "x")
    with pytest.raises(SluiceError, match="only text"):
        plain({"role": "system", "content": [{"type": "image_url"}]}, "m")


@pytest.mark.parametrize("arguments, read", [('{"a":1}', {"a": 1}), ("", {}), (None, {}), ({"a": 1}, {"a": 1})])
def test_tool_calls_are_parsed(arguments: object, read: Json) -> None:
    message = {"tool_calls": [{"id": "x", "function": {"name": "f", "arguments": arguments}}]}
    assert [(call.id, call.name, call.arguments) for call in tool_calls(message, "m")] == [("x", "f", read)]


def test_one_string_or_several_are_a_list() -> None:
    assert (strings("a", "stop"), strings(["a", "b"], "stop")) == (["a"], ["a", "b"])
    with pytest.raises(SluiceError, match=r"stop must be a string"):
        strings([1], "stop")


def test_what_is_left_over_is_dropped_ignored_or_refused() -> None:
    assert (leftover("user", "u"), leftover("n", 1), leftover("echo", False)) == (["drop user"], [], [])
    with pytest.raises(SluiceError, match="value of n"):
        leftover("n", 3)


def test_a_body_that_is_no_object() -> None:
    asked = order(Ollama(), {})
    for body, code in ((b"{", "client_invalid_json"), (b"[]", "client_invalid_request")):
        with pytest.raises(SluiceError) as caught:
            fields_of(type(asked)("chat/completions", body, False, [], asked.target))
        assert caught.value.code == code


@both
def test_fields_of_a_message_that_are_lost_are_reported(translating: Provider) -> None:
    shown = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}", "detail": "low"}}
    call = {
        "id": "a",
        "type": "function",
        "function": {"name": "weather", "arguments": "{}"},
        "extra_content": {"a": 1},
    }
    said = {"role": "assistant", "content": "", "tool_calls": [call], "annotations": [{"type": "url_citation"}]}
    result = {"role": "tool", "tool_call_id": "a", "name": "weather", "content": "sunny"}
    fields: Json = {"max_tokens": 9, "tools": [WEATHER]}
    fields["messages"] = [{"role": "user", "name": "Bob", "content": [shown]}, said, result, {**ASK[0], "name": "Bob"}]
    assert changes(translating, fields) == ("drop name", "drop detail", "drop annotations", "drop extra_content")


@both
def test_what_says_nothing_goes_lost_in_silence(translating: Provider) -> None:
    """So do all the empty members that OpenAI's own answers have, when they are sent back."""
    shown = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}", "detail": "auto"}}
    said: Json = {
        "role": "assistant",
        "content": "x",
        "refusal": None,
        "annotations": [],
        "audio": None,
        "tool_calls": None,
    }
    messages = [{"role": "user", "content": [shown]}, said, {"role": "user", "content": "y", "name": None}]
    assert changes(translating, {"max_tokens": 9, "messages": messages, "reasoning": {"summary": "auto"}}) == ()


@both
def test_of_reasoning_only_the_effort_is_taken(translating: Provider) -> None:
    asked = {"effort": "none", "max_tokens": 2000, "exclude": True}
    assert changes(translating, {"max_tokens": 9, "reasoning": asked}) == (
        "drop reasoning.max_tokens",
        "drop reasoning.exclude",
    )


@both
def test_a_refusal_sent_back_is_what_was_said(translating: Provider) -> None:
    said = {"role": "assistant", "content": None, "refusal": "I cannot do that."}
    body = sent(translating, {"messages": [*ASK, said, *ASK]})
    assert "I cannot do that." in str(body["messages"][1]["content"])


@both
@pytest.mark.parametrize(
    "lost", [{"function_call": {"name": "weather", "arguments": "{}"}}, {"audio": {"id": "audio_1"}}]
)
def test_what_a_conversation_would_mean_something_else_without_is_refused(translating: Provider, lost: Json) -> None:
    with pytest.raises(SluiceError) as caught:
        sent(translating, {"messages": [*ASK, {"role": "assistant", "content": None, **lost}, *ASK]})
    assert (caught.value.status, caught.value.param) == (400, f"messages[1].{next(iter(lost))}")


def test_marks_for_a_cache_stay_where_the_upstream_has_one() -> None:
    marked = {"cache_control": {"type": "ephemeral"}}
    text = {"type": "text", "text": "Hi", **marked}
    fields: Json = {
        "max_tokens": 9,
        "messages": [{"role": "user", "content": [text]}],
        "tools": [{**WEATHER, **marked}],
    }
    assert changes(Anthropic(), fields) == ()
    assert changes(Ollama(), fields) == ("drop cache_control",)


@pytest.mark.parametrize("name", ["anthropic", "ollama", "mistral"])
def test_what_can_be_read_and_not_be_written_is_the_clients_fault(name: str) -> None:
    translating = provider(name, {})
    deep = b'{"a":' * 500 + b"1" + b"}" * 500
    call = b'{"function":{"arguments":%s}}' % deep if name == "mistral" else b""
    hi = b'{"role":"user","name":"x","content":"Hi","tool_calls":[%s]}' % call
    tools = b'[{"function":{"name":"f","parameters":%s}}]' % deep
    with pytest.raises(SluiceError, match="nested too deeply") as caught:
        translating.request(order(translating, {}).with_body(b'{"messages":[%s],"tools":%s}' % (hi, tools)))
    assert caught.value.status == 400


def test_a_limit_beyond_all_reason_is_the_clients_fault_too() -> None:
    with pytest.raises(SluiceError, match="too large a number"):
        sent(Anthropic(), {"max_tokens": 1e300})


CONFIG = """
upstreams:
  small: {{provider: ollama, base_url: {small}}}
  able: {{provider: openai, base_url: {able}, api_key: k}}
routes:
  - {{model: both, to: ["small/llama3.2:latest", able/gpt-4o]}}
"""


def test_what_one_upstream_cannot_be_asked_a_later_one_is_asked() -> None:
    """As `explain` says it; what nobody could be asked goes nowhere."""
    with (
        OllamaDouble() as small,
        OpenAIDouble(key="k") as able,
        sluice(CONFIG.format(small=small.url, able=able.url)) as proxy,
    ):
        for more in ({"n": 2}, {"tools": [WEATHER], "tool_choice": "required"}):
            answer = proxy.chat({"model": "both", "messages": ASK, **more})
            assert (answer.status_code, answer.headers["x-sluice-upstream"]) == (200, "able")
        assert proxy.chat({"model": "both", "messages": [{"role": "user", "content": 5}]}).status_code == 400
        assert (len(small.calls), len(able.calls)) == (0, 2)
