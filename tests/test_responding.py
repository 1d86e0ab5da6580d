"""Whole answers of the Responses API as the events of a stream."""

from typing import Any

import orjson
import pytest

from proxy.errors import SluiceError
from proxy.responding import response_events
from proxy.sse import events, payload

USAGE = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}


def streamed(*output: Any, **more: Any) -> list[dict[str, Any]]:
    """The events of a response, without the two that begin it; each says its type in both places, and is numbered."""
    whole = {"id": "r", "status": "completed", "output": list(output), "usage": USAGE} | more
    found = []
    for at, event in enumerate(events(response_events(orjson.dumps(whole)))):
        fields = orjson.loads(payload(event) or b"")
        assert event.startswith(b"event: " + fields["type"].encode() + b"\n") and fields.pop("sequence_number") == at
        found.append(fields)
    begun: dict[str, Any] = {"id": "r", "status": "in_progress", "output": [], "usage": None}
    begun |= {"incomplete_details": None} if "incomplete_details" in more else {}
    kinds = ("response.created", "response.in_progress")
    assert found[:2] == [{"type": kind, "response": begun} for kind in kinds]
    assert found[-1] == {"type": f"response.{whole['status']}", "response": whole}
    return found[2:-1]


def test_texts_and_refusals_come_in_one_delta_each() -> None:
    note = {"type": "url_citation", "url": "u"}
    spoken = {"type": "output_text", "text": "Hello", "annotations": [note]}
    refused = {"type": "refusal", "refusal": "No."}
    item = {"id": "m", "type": "message", "role": "assistant", "status": "completed", "content": [spoken, refused]}
    first: dict[str, Any] = {"item_id": "m", "output_index": 0, "content_index": 0}
    second = first | {"content_index": 1}
    assert streamed(item) == [
        {"type": "response.output_item.added", "output_index": 0, "item": item | {"status": "in_progress", "content": []}},
        {"type": "response.content_part.added", **first, "part": spoken | {"text": "", "annotations": []}},
        {"type": "response.output_text.delta", **first, "delta": "Hello", "logprobs": []},
        {"type": "response.output_text.annotation.added", **first, "annotation_index": 0, "annotation": note},
        {"type": "response.output_text.done", **first, "text": "Hello", "logprobs": []},
        {"type": "response.content_part.done", **first, "part": spoken},
        {"type": "response.content_part.added", **second, "part": {"type": "refusal", "refusal": ""}},
        {"type": "response.refusal.delta", **second, "delta": "No."},
        {"type": "response.refusal.done", **second, "refusal": "No."},
        {"type": "response.content_part.done", **second, "part": refused},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
    ]  # fmt: skip


def test_the_logprobs_of_a_text_come_with_it() -> None:
    odds = [{"token": "Hello", "logprob": -0.1, "bytes": [72], "top_logprobs": []}]
    part = {"type": "output_text", "text": "Hello", "annotations": [], "logprobs": odds}
    found = streamed({"id": "m", "type": "message", "content": [part]})
    assert [event["logprobs"] for event in found[2:4]] == [odds, odds] and found[1]["part"] == part | {
        "text": "",
        "logprobs": [],
    }


def test_function_calls_have_their_arguments_in_one_delta_and_other_items_come_as_they_are() -> None:
    thought = {"id": "t", "type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]}
    call = {
        "id": "f",
        "type": "function_call",
        "call_id": "c",
        "name": "look",
        "arguments": "{}",
        "status": "completed",
    }
    place = {"item_id": "f", "output_index": 1}
    assert streamed(thought, call) == [
        {"type": "response.output_item.added", "output_index": 0, "item": thought},
        {"type": "response.output_item.done", "output_index": 0, "item": thought},
        {"type": "response.output_item.added", "output_index": 1,
         "item": call | {"arguments": "", "status": "in_progress"}},
        {"type": "response.function_call_arguments.delta", **place, "delta": "{}"},
        {"type": "response.function_call_arguments.done", **place, "name": "look", "arguments": "{}"},
        {"type": "response.output_item.done", "output_index": 1, "item": call},
    ]  # fmt: skip


def test_a_response_that_was_cut_short_says_so_at_its_end() -> None:
    cut = {"incomplete_details": {"reason": "max_output_tokens"}}
    assert streamed(status="incomplete", **cut) == []
    assert b"event: response.incomplete" in response_events(orjson.dumps({"output": [], **cut}))


@pytest.mark.parametrize("odd", [7, {}, {"content": 7}, {"content": [7, {"type": []}]}, {"type": "function_call"}])
def test_odd_items_become_events_too(odd: Any) -> None:
    assert [event["type"] for event in streamed(odd)][-1] == "response.output_item.done"


@pytest.mark.parametrize(
    "whole",
    [b"", b"[]", b"{}", b'{"output": {}}', b'{"output": [], "status": "queued"}', b'{"output": [], "status": []}'],
)
def test_what_is_no_finished_response_is_malformed(whole: bytes) -> None:
    with pytest.raises(SluiceError, match="upstream_malformed") as raised:
        response_events(whole)
    assert raised.value.again == "next"
