"""What a caller got is read off the bytes as they came."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.selftest.receiving import parse_answer

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(content: str | None = None, finish: str | None = None, **more: object) -> bytes:
    delta = {} if content is None else {"content": content}
    choice = {"index": 0, "delta": delta | more, "finish_reason": finish}
    return b"data: " + orjson.dumps({"id": "c1", "model": "m", "choices": [choice]}) + b"\n\n"


EVENTS = [chunk("", role="assistant"), chunk("one"), chunk(" two"), chunk(finish="stop")]
USAGE = b'data: {"id":"c1","choices":[],"usage":{"prompt_tokens":21}}\n\n'
DONE = b"data: [DONE]\n\n"


def framed(*pieces: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    return HEAD + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + end


def test_a_complete_stream_is_parsed() -> None:
    received = parse_answer(framed(*EVENTS, USAGE, DONE), 0.5, hung=False)
    assert (received.status, received.whole, received.text, received.finishes, received.done) == (
        200,
        True,
        "one two",
        ("stop",),
        True,
    )
    assert (received.model, received.counted, received.ids, received.roles, received.code) == ("m", 21, 1, 1, None)
    assert received.oddities == () and received.invalid_events == 0


@given(st.integers(1, 400))
def test_how_the_body_is_cut_into_chunks_does_not_matter(size: int) -> None:
    body = b"".join([*EVENTS, USAGE, DONE])
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    assert parse_answer(framed(*pieces), 0.0, hung=False) == parse_answer(framed(body), 0.0, hung=False)


def test_line_ends_comments_and_marks_do_not_matter() -> None:
    body = b"\xef\xbb\xbf: hello\n\n" + b"".join([*EVENTS, DONE])
    assert parse_answer(framed(body.replace(b"\n", b"\r\n")), 0.0, hung=False).text == "one two"


@pytest.mark.parametrize("end", [b"", b"0\r\n", b"5\r\nab", b"0\r\n\r\nmore"])
def test_a_body_that_breaks_off_is_not_whole(end: bytes) -> None:
    assert not parse_answer(framed(*EVENTS, end=end), 0.0, hung=False).whole


def test_an_error_event_ends_the_stream() -> None:
    error = b'data: {"error":{"message":"broken","type":"upstream_error","param":null,"code":"upstream_truncated"}}\n\n'
    received = parse_answer(framed(*EVENTS[:2], error), 0.0, hung=False)
    assert (received.text, received.code, received.message, received.done) == (
        "one",
        "upstream_truncated",
        "broken",
        False,
    )
    assert parse_answer(framed(*EVENTS[:2], error, DONE), 0.0, hung=False).oddities == ("an event after the end",)


@pytest.mark.parametrize(
    ("pieces", "oddity"),
    [
        ([*EVENTS, chunk("more")], "text after the finish reason"),
        ([*EVENTS, DONE, chunk("more")], "an event after the end"),
        ([b"data: 7\n\n"], "an event that is not a JSON object"),
        ([b'data: {"error":"text"}\n\n'], "an error that is not in OpenAI's form"),
    ],
)
def test_violations_of_the_stream_format(pieces: list[bytes], oddity: str) -> None:
    assert oddity in parse_answer(framed(*pieces), 0.0, hung=False).oddities


def test_events_that_are_no_json_are_counted() -> None:
    assert parse_answer(framed(EVENTS[1], b'data: {"id":"c\n\n', EVENTS[2]), 0.0, hung=False).invalid_events == 1


def test_events_under_another_content_type() -> None:
    raw = framed(*EVENTS, DONE).replace(b"text/event-stream", b"application/x-ndjson")
    received = parse_answer(raw, 0.0, hung=False)
    assert received.text == "one two" and received.oddities == ("events with the content type application/x-ndjson",)


def whole(body: bytes, status: str = "200 OK", promised: int | None = None) -> bytes:
    length = len(body) if promised is None else promised
    return f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n".encode() + body


def test_an_answer_in_one_piece() -> None:
    choice = {"message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}
    body = orjson.dumps({"object": "chat.completion", "model": "m", "choices": [choice], "usage": {"prompt_tokens": 3}})
    received = parse_answer(whole(body), 0.0, hung=False)
    assert (received.text, received.finishes, received.done, received.counted, received.whole) == (
        "yes",
        ("stop",),
        True,
        3,
        True,
    )
    assert not parse_answer(whole(body, promised=len(body) + 1), 0.0, hung=False).whole


def test_an_error_in_one_piece() -> None:
    body = b'{"error":{"message":"m","type":"upstream_error","param":null,"code":"upstream_error"}}'
    received = parse_answer(whole(body, "502 Bad Gateway"), 0.0, hung=False)
    assert (received.status, received.code, received.text) == (502, "upstream_error", "")


@pytest.mark.parametrize("raw", [b"", b"HTTP/1.1 200 OK\r\ncont"])
def test_no_head_is_no_answer(raw: bytes) -> None:
    received = parse_answer(raw, 1.0, hung=True)
    assert received.hung and received.status == 0


def test_a_body_that_is_not_json() -> None:
    assert parse_answer(whole(b"<html>"), 0.0, hung=False).oddities == ("a body that is not JSON",)
    assert parse_answer(whole(b"[]"), 0.0, hung=False).oddities == ("a body that is not a JSON object",)
