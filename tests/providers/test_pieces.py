import orjson
import pytest

from proxy.providers.pieces import joined, joined_events

THOUGHT = {"type": "thinking", "thinking": [{"type": "text", "text": "h"}, {"type": "text", "text": "m"}]}
TEXT = {"type": "text", "text": "Hé"}
REFERENCE = {"type": "reference", "reference_ids": [1]}


def whole(**message: object) -> bytes:
    return orjson.dumps({"id": "1", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})


def chunk(**delta: object) -> bytes:
    return b"data: " + orjson.dumps({"id": "1", "choices": [{"index": 0, "delta": delta}]}) + b"\n\n"


def test_pieces_are_one_text_and_thoughts() -> None:
    given = whole(role="assistant", content=[THOUGHT, TEXT, TEXT])
    assert joined(given) == whole(role="assistant", content="HéHé", reasoning_content="hm")
    assert joined(whole(content=[])) == whole(content="")
    assert joined(whole(content=[{"type": "thinking", "thinking": "hm"}])) == whole(content="", reasoning_content="hm")


def test_events_are_converted_alike() -> None:
    batch = chunk(content="a") + chunk(content=[THOUGHT]) + chunk(content=[TEXT]) + b"data: [DONE]\n\n"
    want = chunk(content="a") + chunk(content="", reasoning_content="hm") + chunk(content="Hé") + b"data: [DONE]\n\n"
    assert joined_events(batch) == want


@pytest.mark.parametrize(
    "answer",
    [
        whole(content="Hi"),
        whole(content=[TEXT, REFERENCE]),
        whole(content=["odd"]),
        b'{"choices":[{"message":{"content": [',
        b'{"choices":null,"content":[]}',
        b'{"choices":[null,{"message":3}],"content": []}',
    ],
)
def test_what_has_no_pieces_or_others_passes_byte_for_byte(answer: bytes) -> None:
    assert joined(answer) == answer
    event = b"data: " + answer + b"\n\n"
    assert joined_events(event) == event
