"""A stream of llama.cpp's /v1/responses, as its server sends it, is put together by OpenAI's client."""

from typing import Any, cast

import orjson
import pytest
from openai import omit
from openai._models import construct_type
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import ResponseStreamEvent

from proxy.providers.registry import provider
from proxy.sse import events, payload
from tests.providers.targets import order

MESSAGE = {"type": "message", "id": "msg_1", "role": "assistant", "content": []}
CALL = {"type": "function_call", "call_id": "fc_1", "name": "look", "arguments": ""}
SAID = MESSAGE | {"content": [{"type": "output_text", "text": "Hello", "annotations": []}], "status": "completed"}
CALLED = CALL | {"arguments": "{}", "status": "completed"}
WHOLE = {"object": "response", "id": "resp_1", "created_at": 5, "model": "tiny", "status": "completed"}
SENT: list[dict[str, Any]] = [
    {"type": "response.created", "response": {"id": "resp_1", "object": "response", "status": "in_progress"}},
    {"type": "response.in_progress", "response": {"id": "resp_1", "object": "response", "status": "in_progress"}},
    {"type": "response.output_item.added", "item": MESSAGE | {"status": "in_progress"}},
    {"type": "response.content_part.added", "item_id": "msg_1", "part": {"type": "output_text", "text": ""}},
    {"type": "response.output_text.delta", "item_id": "msg_1", "delta": "Hel"},
    {"type": "response.output_text.delta", "item_id": "msg_1", "delta": "lo"},
    {"type": "response.output_item.added", "item": CALL | {"status": "in_progress"}},
    {"type": "response.output_text.done", "item_id": "msg_1", "text": "Hello"},
    {"type": "response.function_call_arguments.delta", "item_id": "fc_1", "delta": "{}"},
    {"type": "response.output_item.done", "item": SAID},
    {"type": "response.output_item.done", "item": CALLED},
    {"type": "response.completed", "response": WHOLE | {"output": [SAID, CALLED]}},
]
STREAM = b"".join(b"event: %b\ndata: %b\n\n" % (each["type"].encode(), orjson.dumps(each)) for each in SENT)


def read(stream: bytes, size: int = 100_000, endpoint: str = "responses") -> bytes:
    at = provider("llamacpp", {})
    reader = at.passing(order(at, endpoint=endpoint, model="tiny", stream=True))
    return b"".join(reader.feed(stream[i : i + size]) for i in range(0, len(stream), size)) + reader.finish()


def told(stream: bytes) -> list[dict[str, Any]]:
    return [orjson.loads(payload(event) or b"") for event in events(stream)]


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_openais_client_puts_it_together(size: int) -> None:
    state: ResponseStreamState[Any] = ResponseStreamState(input_tools=[], text_format=omit)
    put: dict[str, str] = {}
    for event in told(read(STREAM, size)):
        for found in state.handle_event(cast(Any, construct_type(value=event, type_=ResponseStreamEvent))):
            if found.type in ("response.output_text.delta", "response.function_call_arguments.delta"):
                put[found.item_id] = found.snapshot
    assert put == {"msg_1": "Hello", "fc_1": "{}"}


def test_items_parts_and_events_are_numbered() -> None:
    found = told(read(STREAM))
    assert [event["sequence_number"] for event in found] == list(range(len(SENT)))
    assert [event.get("output_index") for event in found] == [None, None, 0, 0, 0, 0, 1, 0, 1, 0, 1, None]
    assert [event.get("content_index") for event in found] == [
        None,
        None,
        None,
        0,
        0,
        0,
        None,
        0,
        None,
        None,
        None,
        None,
    ]
    assert found[0]["response"]["model"] == "tiny" and found[0]["response"]["output"] == []


def test_what_an_event_says_itself_stays_byte_for_byte() -> None:
    placed = read(STREAM)
    strange = b'data: {"type": 1}\n\ndata: [1]\n\ndata: {not json\n\n: ping\n\ndata: {"type": "a\\n\\nb"}\n\n'
    assert read(placed) == placed and read(strange) == strange
    own = b'data: {"type": "x", "sequence_number": 7, "item_id": "m", "output_index": 3, "content_index": 2}\n\n'
    assert read(own) == own


def test_streams_of_other_endpoints_pass_unchanged() -> None:
    assert read(STREAM, endpoint="audio/transcriptions") == STREAM
