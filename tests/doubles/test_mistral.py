"""The Mistral double: what its schema forbids."""

from typing import Any

import httpx
import pytest

from tests.doubles.mistral import MistralDouble
from tests.doubles.words import derived

USER = {"role": "user", "content": "hi"}
CALLED = {"role": "assistant", "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "f"}}]}


@pytest.mark.parametrize(
    ("change", "status", "text"),
    [
        ({}, 200, derived("hi")),
        ({"stream": True}, 200, '"usage":{"prompt_tokens"'),
        ({"seed": 1}, 422, '"seed"]'),
        ({"messages": [{**USER, "name": "Bob"}]}, 422, '"name"]'),
        ({"messages": [USER, {"role": "assistant", "content": "x", "refusal": None}, USER]}, 422, '"refusal"]'),
        ({"messages": [{"role": "developer", "content": "x"}]}, 422, "extra_forbidden"),
        ({"messages": [USER, CALLED]}, 400, "with a length of 9"),
    ],
)
def test_the_double_accepts_and_refuses_as_mistral_does(change: dict[str, Any], status: int, text: str) -> None:
    with MistralDouble() as double:
        body = {"model": "mistral-large-latest", "messages": [USER], **change}
        headers = {"authorization": f"Bearer {double.key}"}
        answer = httpx.post(f"{double.url}/chat/completions", json=body, headers=headers, trust_env=False)
        said = answer.json()["choices"][0]["message"]["content"] if not change else answer.text
        assert (answer.status_code, text in said) == (status, True), answer.text
