"""Events are cut where the WHATWG grammar ends them, however the network cuts the bytes."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.errors import SluiceError
from proxy.sse import EventCutter, events, payload

STREAM = b": hello\n\ndata: one\n\nevent: x\r\ndata: two\r\ndata: lines\r\n\r\ndata:three\r\rdata\n\nid: 7\n\ndata: [DONE]\n\n"
DATA = [b"one", b"two\nlines", b"three", b"", b"[DONE]"]
LINES = st.sampled_from(
    [b"data: a", b"data:b", b"data:  c", b"data", b": note", b"event: e", b"id: 1", b"", b"", b"x:data: d"]
)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
STREAMS = st.lists(st.tuples(LINES, ENDS)).map(lambda lines: b"".join(line + end for line, end in lines))


def read_slowly(stream: bytes) -> list[bytes]:
    """The data of each dispatched event by the grammar, a line at a time (as httpx-sse and browsers read it)."""
    text = stream.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    found: list[bytes] = []
    data: list[bytes] = []
    for line in text.split(b"\n")[:-1]:
        if not line:
            if data:
                found.append(b"\n".join(data))
            data = []
            continue
        name, colon, value = line.partition(b":")
        if name == b"data":
            data.append(value[1:] if value[:1] == b" " else value)
    return found


def read(stream: bytes) -> list[bytes]:
    return [data for event in events(stream) if (data := payload(event)) is not None]


def pieces(stream: bytes, cuts: list[int]) -> list[bytes]:
    ends = sorted({min(cut, len(stream)) for cut in cuts} | {len(stream)})
    return [stream[start:end] for start, end in zip([0, *ends], ends, strict=False)]


@pytest.mark.parametrize("size", range(1, len(STREAM) + 1))
def test_events_do_not_depend_on_how_the_network_cuts_them(size: int) -> None:
    cutter = EventCutter()
    fed = [cutter.feed(STREAM[at : at + size]) for at in range(0, len(STREAM), size)]
    assert [data for batch in fed for data in read(batch)] == DATA
    assert b"".join(fed) + cutter.finish() == STREAM


@given(STREAMS, st.lists(st.integers(0, 120)))
@example(b"data: a\r\n\r\n", [10])
@example(b"data: a\r\rdata: b\r\n\r\n", [9])
def test_what_is_cut_is_what_a_slow_reader_sees(stream: bytes, cuts: list[int]) -> None:
    cutter = EventCutter()
    fed = [cutter.feed(piece) for piece in pieces(stream, cuts)]
    rest = cutter.finish()
    assert b"".join(fed) + rest == stream
    whole = b"".join(fed)
    assert [data for batch in fed for data in read(batch)] == read_slowly(whole)
    assert read_slowly(whole) == read_slowly(stream)  # nothing that is complete is held back


@given(STREAMS)
def test_single_events_are_all_of_the_bytes(stream: bytes) -> None:
    assert b"".join(events(stream)) == stream


def test_an_event_leaves_with_the_byte_that_ends_it() -> None:
    cutter = EventCutter()
    assert [cutter.feed(bytes([byte])) for byte in b"data: x\n\n"][-1] == b"data: x\n\n"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_a_byte_order_mark_before_the_first_event_is_no_part_of_a_name(size: int) -> None:
    stream, cutter = b"\xef\xbb\xbfdata: x\n\n", EventCutter()
    fed = b"".join(cutter.feed(stream[at : at + size]) for at in range(0, len(stream), size))
    assert read(fed) == [b"x"]


@pytest.mark.parametrize(
    ("event", "data"),
    [
        (b"data: x\n\n", b"x"),
        (b"data:x\n\n", b"x"),
        (b"data:  x\n\n", b" x"),
        (b"data: a: b\n\n", b"a: b"),
        (b"data: a\ndata: b\n\n", b"a\nb"),
        (b"data: a\rdata: b\n\n", b"a\nb"),
        (b"data: a\r\ndata\r\n\r\n", b"a\n"),
        (b"event: e\ndata: x\nid: 1\n\n", b"x"),
        (b"data: x\r\n\r\n", b"x"),
        (b"data: x", b"x"),
        (b": data: x\n\n", None),
        (b"datax: y\n\n", None),
        (b" data: x\n\n", None),
        (b"DATA: x\n\n", None),
        (b"\n\n", None),
        (b"", None),
        ("data: \u2028x\x85\n\n".encode(), "\u2028x\x85".encode()),
    ],
)
def test_the_data_of_an_event(event: bytes, data: bytes | None) -> None:
    assert payload(event) == data


def test_an_event_of_the_limit_passes_and_one_byte_more_does_not() -> None:
    event = b"data: " + b"x" * 92 + b"\n\n"
    assert EventCutter(limit=100).feed(event) == event
    cutter = EventCutter(limit=100)
    assert cutter.feed(event[:99]) == b""
    assert cutter.feed(event[99:]) == event
    with pytest.raises(SluiceError, match="upstream_malformed"):
        for _ in range(11):
            cutter.feed(b"x" * 10)


def test_many_events_in_one_piece_are_not_one_large_event() -> None:
    stream = b"data: x\n\n" * 100
    assert EventCutter(limit=20).feed(stream) == stream


def test_a_cutter_is_as_new_after_its_end() -> None:
    cutter = EventCutter()
    assert cutter.feed(b"data: half\n") == b""
    assert cutter.finish() == b"data: half\n"
    assert cutter.finish() == b""
    assert cutter.feed(b"\ndata: x\n\n") == b"\ndata: x\n\n"


def test_a_long_event_in_small_pieces_costs_no_more_than_its_length() -> None:
    cutter = EventCutter()
    for _ in range(200_000):  # would take minutes if each piece looked at all that is held
        cutter.feed(b"xxxxxxxx")
    assert len(cutter.feed(b"\n\n")) == 1_600_002
