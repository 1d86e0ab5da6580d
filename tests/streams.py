"""What a client reads from a stream of completion events."""

import json
from typing import Any


def chunks(stream: str) -> list[dict[str, Any]]:
    """The JSON of the events; comments are left out. Asserts that one `[DONE]` comes, and comes last."""
    data = [line.removeprefix("data: ") for line in stream.splitlines() if line.startswith("data: ")]
    assert data.pop() == "[DONE]"
    return [json.loads(each) for each in data]


def text_of(stream: str) -> str:
    """The text that the chat chunks add up to."""
    choices = [choice for chunk in chunks(stream) for choice in chunk.get("choices", ())]
    return "".join(choice["delta"].get("content") or "" for choice in choices)
