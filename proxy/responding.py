"""Converts a whole answer of the Responses API into the events of a stream, and the reverse."""

from collections.abc import Iterator
from typing import Any, Final

import orjson

from proxy.errors import SluiceError
from proxy.jsonspans import Path, find
from proxy.shapes import list_of, object_of
from proxy.watch import lenient

_RESPONSE: Final = Path.of("response")
_FINAL: Final = ("completed", "incomplete", "failed")  # statuses of a response that has ended
_TEXTS: Final = {"output_text": "text", "reasoning_text": "text", "refusal": "refusal"}
"""Parts whose text comes in deltas, by type, with the name of their text."""
_LATER: Final = ("usage", "incomplete_details", "completed_at")  # null in a response that begins

Event = tuple[str, dict[str, Any]]
"""Type and fields."""


def response_events(whole: bytes) -> bytes:
    """A response as events in OpenAI's order, each text in one delta.

    Raises upstream_malformed if it is no response, or one that has not ended.
    """
    try:
        response = orjson.loads(whole)
    except orjson.JSONDecodeError:
        raise _malformed() from None
    if not isinstance(response, dict) or not isinstance(response.get("output"), list):
        raise _malformed()
    status = response.setdefault("status", "incomplete" if response.get("incomplete_details") else "completed")
    if status not in _FINAL:
        raise _malformed()
    try:
        return b"".join(
            b"event: %b\ndata: %b\n\n" % (kind.encode(), orjson.dumps({"type": kind, "sequence_number": at, **fields}))
            for at, (kind, fields) in enumerate(_events(response, status))
        )
    except orjson.JSONEncodeError:  # nested too deeply
        raise _malformed() from None


def response_in(event: bytes, spoken: bool) -> bytes:
    """The bytes of the response that the last event of a stream holds; `event`: its JSON.

    `spoken`: events before it had content. Raises upstream_malformed if it holds no response, or one without that.
    """
    output = object_of(object_of(lenient(event)).get("response")).get("output")
    span = find(event, _RESPONSE)
    if span is None or not isinstance(output, list) or (spoken and not output):
        raise SluiceError("upstream_malformed", "The upstream's last event holds no whole response.", again="next")
    return event[slice(*span)]


def _events(response: dict[str, Any], status: str) -> Iterator[Event]:
    begun = response | {"status": "in_progress", "output": []} | {key: None for key in _LATER if key in response}
    yield "response.created", {"response": begun}
    yield "response.in_progress", {"response": begun}
    for at, item in enumerate(response["output"]):
        yield from _item_events(at, object_of(item))
    yield f"response.{status}", {"response": response}


def _item_events(at: int, item: dict[str, Any]) -> Iterator[Event]:
    place = {"item_id": item.get("id", ""), "output_index": at}
    begun = item | {"status": "in_progress"} if "status" in item else dict(item)
    begun |= {"arguments": ""} if "arguments" in item else {}
    begun |= {"content": []} if isinstance(item.get("content"), list) else {}
    yield "response.output_item.added", {"output_index": at, "item": begun}
    for index, part in enumerate(list_of(item.get("content"))):
        yield from _part_events(place | {"content_index": index}, object_of(part))
    if item.get("type") == "function_call":
        arguments = item.get("arguments", "")
        yield "response.function_call_arguments.delta", {**place, "delta": arguments}
        yield "response.function_call_arguments.done", {**place, "name": item.get("name"), "arguments": arguments}
    yield "response.output_item.done", {"output_index": at, "item": item}


def _part_events(place: dict[str, Any], part: dict[str, Any]) -> Iterator[Event]:
    kind = part.get("type")
    name = _TEXTS.get(kind) if isinstance(kind, str) else None
    begun = part | ({name: ""} if name else {}) | {key: [] for key in ("annotations", "logprobs") if key in part}
    yield "response.content_part.added", {**place, "part": begun}
    if name:
        text = part.get(name, "")
        logprobs = {"logprobs": list_of(part.get("logprobs"))} if kind == "output_text" else {}
        yield f"response.{kind}.delta", {**place, "delta": text, **logprobs}
        for index, annotation in enumerate(list_of(part.get("annotations"))):
            note = {"annotation_index": index, "annotation": annotation}
            yield "response.output_text.annotation.added", {**place, **note}
        yield f"response.{kind}.done", {**place, name: text, **logprobs}
    yield "response.content_part.done", {**place, "part": part}


def _malformed() -> SluiceError:
    return SluiceError("upstream_malformed", "The upstream's answer is not a finished response.", again="next")
