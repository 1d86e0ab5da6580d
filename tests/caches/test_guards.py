"""What keeps similar questions apart that are not the same."""

import json
from pathlib import Path
from typing import Any

import pytest

from proxy.caches.guards import canonical, difference

PAIRS: list[dict[str, Any]] = [
    json.loads(line) for line in (Path(__file__).parent.parent / "data/similar_pairs.jsonl").read_text().splitlines()
]


@pytest.mark.parametrize("pair", [pair for pair in PAIRS if not pair["same"]], ids=lambda pair: str(pair["a"]))
def test_questions_that_are_not_the_same_differ(pair: dict[str, Any]) -> None:
    assert difference(pair["a"], pair["b"])
    assert difference(pair["b"], pair["a"]) == difference(pair["a"], pair["b"])


def test_about_half_of_the_paraphrases_pass() -> None:
    same = [pair for pair in PAIRS if pair["same"]]
    assert sum(not difference(pair["a"], pair["b"]) for pair in same) / len(same) > 0.55


@pytest.mark.parametrize(
    ("one", "other", "found"),
    [
        ("Convert 10 miles to km", "Convert 12 miles to km", "numbers"),
        ("Who was the second king?", "Who was the third king?", "numbers"),
        ("Fly from Rome to Oslo", "Fly from Oslo to Rome", "order"),
        ("Is this vegan?", "Is this not vegan?", "negation"),
        ("Why can I log in?", "Why can't I log in?", "negation"),
        ("Ist der Laden offen?", "Ist der Laden nicht offen?", "negation"),
        ("How old is Brad Pitt?", "How old is Tom Hanks?", "names"),
        ("Where do I stand?", "Where do you stand?", "question"),
        ("what does grep -r do", "what does grep -R do", "names"),
        ("open a file", "close a file", "words"),
        ("When was it built?", "Where was it built?", "question"),
        ("What did Alice eat?", "Did Alice eat?", "question"),
        ("What is your name?", "What is my name?", "question"),
        ("What's the time in Oslo?", "Can you tell me what the time in Oslo is", "question"),
        ("What's the capital of Peru?", "hi, please tell me the capital of peru", ""),
        ("In Python, how do I sort a list?", "how can I sort a list in python?", ""),
        ("How do I reset my password?", "how to reset my password", ""),
    ],
)
def test_the_kind_of_difference(one: str, other: str, found: str) -> None:
    assert difference(one, other) == found


def test_texts_of_any_kind_are_equal_to_themselves() -> None:
    for text in ("", "?", "日本の首都はどこですか？", "a\x00b", "🦉 🦉", "x" * 10_000, "C++ vs C#", "- - -"):
        assert difference(text, text) == ""
    assert canonical("C++") != canonical("C#") != canonical("C")
    assert canonical("5 - 3") != canonical("5 + 3")
