"""HTTP tools over real sockets, and all that they may do wrong."""

import asyncio
import json
from collections.abc import Iterator

import pytest

from proxy.errors import SluiceError
from proxy.upstream.tools import Tools
from tests.doubles.tools import ToolsDouble


@pytest.fixture
def double() -> Iterator[ToolsDouble]:
    with ToolsDouble() as running:
        yield running


def ask(url: str, timeout: float = 5.0) -> bytes:
    return asyncio.run(Tools().ask(url, timeout, b'{"name":"x"}'))


def test_the_tool_gets_json_and_its_answer_comes_back(double: ToolsDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert json.loads(ask(f"{double.url}/echo")) == {"name": "x"}
    (request,) = double.requests
    assert request.method == "POST" and request.header("content-type") == "application/json"


@pytest.mark.parametrize(
    ("path", "code", "says"),
    [
        ("/broken", "upstream_error", "status 500"),
        ("/elsewhere", "upstream_error", "status 302"),
        ("/endless", "upstream_malformed", "larger than"),
        ("/packed", "upstream_malformed", "compressed"),
        ("/cut", "upstream_unreachable", "could not be reached"),
        ("/silent", "upstream_timeout", "in time"),
        ("/slow", "upstream_timeout", "in time"),
    ],
)
def test_what_goes_wrong_is_said(double: ToolsDouble, path: str, code: str, says: str) -> None:
    with pytest.raises(SluiceError, match=says) as caught:
        ask(double.url + path, 1.0 if code == "upstream_timeout" else 5.0)
    assert caught.value.code == code
    assert len(double.requests) == 1, "neither again nor elsewhere"


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/x", "https://127.0.0.1:1/x"])
def test_an_unreachable_tool_is_upstream_unreachable(url: str) -> None:
    with pytest.raises(SluiceError) as caught:
        ask(url)
    assert caught.value.code == "upstream_unreachable" and "127" not in caught.value.message
