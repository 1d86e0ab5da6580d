import pytest

from proxy.errors import SluiceError
from proxy.providers.messages import Data, data_url, fields_of, leftover, plain, strings, tool_calls
from proxy.providers.ollama import Ollama
from tests.providers.orders import Json, order


@pytest.mark.parametrize(
    "url, found",
    [
        ("data:image/png;base64,aGk=", Data("image/png", "aGk=")),
        ("DATA:Image/PNG;charset=x;base64,aGk=", Data("image/png", "aGk=")),
        ("https://x/y", "https://x/y"),
    ],
)
def test_data_urls(url: str, found: Data | str) -> None:
    assert data_url(url, "p") == found


@pytest.mark.parametrize("url", ["data:,hi", "data:image/png,hi", "data:;base64,hi", "data:"])
def test_data_urls_that_hold_no_base64(url: str) -> None:
    with pytest.raises(SluiceError) as caught:
        data_url(url, "messages[0]")
    assert (caught.value.code, caught.value.param) == ("client_invalid_request", "messages[0]")


def test_plain_text() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "refusal", "refusal": "b"}]
    assert plain({"content": parts}, "m") == "a\nb"
    assert (plain({"content": None}, "m"), plain({"content": "x"}, "m")) == ("", "x")
    with pytest.raises(SluiceError, match="only text"):
        plain({"role": "system", "content": [{"type": "image_url"}]}, "m")


@pytest.mark.parametrize("arguments, read", [('{"a":1}', {"a": 1}), ("", {}), (None, {}), ({"a": 1}, {"a": 1})])
def test_tool_calls(arguments: object, read: Json) -> None:
    message = {"tool_calls": [{"id": "x", "function": {"name": "f", "arguments": arguments}}]}
    assert [(call.id, call.name, call.arguments) for call in tool_calls(message, "m")] == [("x", "f", read)]


def test_one_or_several() -> None:
    assert (strings("a", "stop"), strings(["a", "b"], "stop")) == (["a"], ["a", "b"])
    with pytest.raises(SluiceError, match=r"stop must be a string"):
        strings([1], "stop")


def test_what_is_left_over_is_dropped_ignored_or_refused() -> None:
    assert (leftover("user", "u"), leftover("n", 1), leftover("echo", False)) == (["drop user"], [], [])
    with pytest.raises(SluiceError, match="n asks for"):
        leftover("n", 3)


def test_a_body_that_is_no_object() -> None:
    asked = order(Ollama(), {})
    for body, code in ((b"{", "client_invalid_json"), (b"[]", "client_invalid_request")):
        with pytest.raises(SluiceError) as caught:
            fields_of(type(asked)("chat/completions", body, False, [], asked.target))
        assert caught.value.code == code
