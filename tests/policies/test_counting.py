"""Prompts are counted by the vocabulary of the model's family, or not at all."""

import pytest

from proxy.policies.counting import Counters, vocabulary_of

NAMES = {
    "openai/gpt-oss-120b": "o200k_harmony",
    "gpt-4o-mini": "o200k_base",
    "o4-mini": "o200k_base",
    "gpt-4-turbo": "cl100k_base",
    "meta-llama/Llama-3.3-70B-Instruct": "llama3",
    "meta-llama/llama-4-scout": "",
    "qwen/qwen3-32b": "qwen3",
    "claude-sonnet-4.5": "",
}


@pytest.mark.parametrize(("model", "vocabulary"), NAMES.items())
def test_a_family_has_its_vocabulary(model: str, vocabulary: str) -> None:
    assert vocabulary_of(model) == vocabulary


def test_every_vocabulary_is_at_hand_and_counts() -> None:
    pytest.importorskip("quicktok", reason="extra tokens")
    counters = Counters()
    counters.load(NAMES)
    for model, vocabulary in NAMES.items():
        counter = counters.counter_for(model)
        assert (counter("hello world") if counter else None) == (2 if vocabulary else None)


def test_what_a_call_asks_for_is_loaded_when_there_is_time() -> None:
    pytest.importorskip("quicktok", reason="extra tokens")
    counters = Counters()
    assert counters.counter_for("qwen/qwen3-32b") is None  # an estimate must do
    counters.catch_up()
    counter = counters.counter_for("qwen/qwen3-32b")
    assert counter is not None and counter("hello world") == 2


def test_without_the_extra_nothing_is_counted() -> None:
    assert Counters(available=False).counter_for("gpt-4o") is None
