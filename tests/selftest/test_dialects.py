"""The dialects of the fault upstreams are read back by the providers that Sluice has for them."""

from typing import Any

import orjson
import pytest

from proxy.assembling import Assembler
from proxy.providers.registry import provider
from proxy.selftest.dialects import dialect
from proxy.selftest.words import TOKENS, Completion, tokens_for
from proxy.sse import events, payload
from tests.providers.targets import order

SAID = Completion("m", tokens_for("q"), 11, usage=True)
NAMES = ["openai", "openrouter", "llamacpp", "azure", "ollama", "anthropic"]


@pytest.mark.parametrize("name", NAMES)
def test_a_stream_has_text_finish_and_usage(name: str) -> None:
    reader, gathered = provider(name, {}).reader(order(provider(name, {}), stream=True)), Assembler()
    gathered.add(reader.feed(b"".join(dialect(name).stream(SAID).events)) + reader.finish())
    assert_complete(orjson.loads(gathered.whole()))


@pytest.mark.parametrize("name", NAMES)
def test_a_whole_answer_has_text_finish_and_usage(name: str) -> None:
    speaks = provider(name, {})
    assert_complete(orjson.loads(speaks.whole(order(speaks), dialect(name).whole(SAID))))


def assert_complete(answer: dict[str, Any]) -> None:
    choice = answer["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == (SAID.text, "stop")
    assert (answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"]) == (11, TOKENS)


@pytest.mark.parametrize("name", NAMES)
def test_an_error_names_its_message(name: str) -> None:
    failure = provider(name, {}).failure(503, [], dialect(name).error(503, "Nobody is at home.", "x"))
    assert failure.code == "upstream_overloaded" and "Nobody is at home." in failure.message


def test_usage_comes_only_where_it_was_asked_for() -> None:
    quiet = Completion("m", SAID.tokens, 11, usage=False)
    assert dialect("openai").stream(quiet).usage == ()
    last = payload(next(iter(events(dialect("openai").stream(SAID).usage[0]))))
    assert last and orjson.loads(last)["choices"] == []
