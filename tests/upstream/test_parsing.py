"""Responses come out the same however the network cuts them."""

from dataclasses import dataclass

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.upstream.parsing import MAX_HEAD, MAX_LINES, ResponseParser

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"


@dataclass(frozen=True)
class Parsed:
    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    complete: bool
    keep_alive: bool
    error: str


def parsed(pieces: list[bytes], bodiless: bool = False, closed: bool = False) -> Parsed:
    parser, error = ResponseParser(), ""
    parser.expect(bodiless)
    body = b""
    try:
        for piece in pieces:
            parser.feed(piece)
            body += b"".join(parser.pieces)
            parser.pieces.clear()
        if closed:
            parser.finish()
    except httpx.RemoteProtocolError as refused:
        error = str(refused)
        body += b"".join(parser.pieces)
    headers = tuple(parser.headers) if parser.status else ()
    return Parsed(parser.status, headers, body, parser.complete, parser.keep_alive, error)


def cuts(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def same_at_every_cut(data: bytes, bodiless: bool = False, closed: bool = False) -> Parsed:
    whole = parsed([data], bodiless, closed)
    for size in range(1, len(data)):
        assert parsed(cuts(data, size), bodiless, closed) == whole, size
    for at in range(1, len(data)):
        assert parsed([data[:at], data[at:]], bodiless, closed) == whole, at
    return whole


COMPLETE = {
    "content-length": (OK + b"Content-Length: 2\r\nX: Y\r\n\r\nhi", 200, b"hi"),
    "empty": (OK + b"content-length: 0\r\n\r\n", 200, b""),
    "chunked": (CHUNKED + b"2\r\nhi\r\n3\r\n yo\r\n0\r\n\r\n", 200, b"hi yo"),
    "chunk extension, trailers": (CHUNKED + b"2;a=b\r\nhi\r\n0\r\nx: y\r\nz: 1\r\n\r\n", 200, b"hi"),
    "chunked in capitals": (OK + b"Transfer-Encoding: Chunked\r\n\r\n1\r\nA\r\n0\r\n\r\n", 200, b"A"),
    "no reason": (b"HTTP/1.1 200\r\ncontent-length: 2\r\n\r\nhi", 200, b"hi"),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
    "304": (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n", 304, b""),
    "interim": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n"
        + OK
        + b"content-length: 2\r\n\r\nhi",
        200,
        b"hi",
    ),
    "http/1.0 keep-alive": (b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nhi", 200, b"hi"),
}


@pytest.mark.parametrize("case", COMPLETE)
def test_a_framed_response_is_complete_and_its_connection_reusable(case: str) -> None:
    data, status, body = COMPLETE[case]
    found = same_at_every_cut(data)
    assert (found.status, found.body, found.complete, found.keep_alive, found.error) == (status, body, True, True, "")


def test_names_are_lower_case_and_interim_headers_and_trailers_are_not_kept() -> None:
    data = (
        b"HTTP/1.1 103 E\r\nlink: a\r\n\r\n"
        + OK
        + b"X-A: B\r\nTransfer-Encoding: chunked\r\n\r\n0\r\ntrailer: t\r\n\r\n"
    )
    assert same_at_every_cut(data).headers == ((b"x-a", b"B"), (b"transfer-encoding", b"chunked"))


CLOSING = {
    "connection: close": OK + b"connection: close\r\ncontent-length: 2\r\n\r\nhi",
    "http/1.0": b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nhi",
    "another response unasked": OK + b"content-length: 2\r\n\r\nhi" + OK + b"content-length: 3\r\n\r\nbad",
    "the beginning of another": OK + b"content-length: 2\r\n\r\nhiHTT",
    "garbage behind": OK + b"content-length: 2\r\n\r\nhi!",
    "garbage behind chunks": CHUNKED + b"2\r\nhi\r\n0\r\n\r\n{}",
    "data after close": OK + b"connection: close\r\ncontent-length: 2\r\n\r\nhi more",
}


@pytest.mark.parametrize("case", CLOSING)
def test_a_complete_response_whose_connection_is_not_to_be_used_again(case: str) -> None:
    found = same_at_every_cut(CLOSING[case])
    assert (found.status, found.body, found.complete, found.keep_alive, found.error) == (200, b"hi", True, False, "")


def test_a_body_without_framing_ends_with_the_connection() -> None:
    data = OK + b"content-type: text/plain\r\n\r\nall of it"
    assert not same_at_every_cut(data).complete
    found = same_at_every_cut(data, closed=True)
    assert (found.body, found.complete, found.keep_alive) == (b"all of it", True, False)


@pytest.mark.parametrize("behind", [b"", b"hello", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_the_answer_to_head_has_no_body_whatever_it_says(behind: bytes) -> None:
    found = same_at_every_cut(OK + b"content-length: 5\r\n\r\n" + behind, bodiless=True)
    assert (found.status, found.body, found.complete, found.keep_alive) == (200, b"", True, False)


CUT_SHORT = {
    "nothing": (b"", 0, "before headers"),
    "half a head": (b"HTTP/1.1 200 OK\r\ncontent-le", 0, "before headers"),
    "only interim": (b"HTTP/1.1 100 Continue\r\n\r\n", 0, "before headers"),
    "half a body": (OK + b"content-length: 5\r\n\r\nhel", 200, "in mid-body"),
    "no last chunk": (CHUNKED + b"2\r\nhi\r\n", 200, "in mid-body"),
    "half a chunk": (CHUNKED + b"5\r\nhi", 200, "in mid-body"),
    "no end of trailers": (CHUNKED + b"2\r\nhi\r\n0\r\nx: y\r\n", 200, "in mid-body"),
}


@pytest.mark.parametrize("case", CUT_SHORT)
def test_a_response_cut_short_is_never_complete(case: str) -> None:
    data, status, said = CUT_SHORT[case]
    found = same_at_every_cut(data, closed=True)
    assert found.status == status
    assert not found.complete
    assert found.error == f"peer closed connection {said}"


REFUSED = {
    "te and cl": OK + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    "cl and te": OK + b"transfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    "two lengths": OK + b"content-length: 2\r\ncontent-length: 3\r\n\r\nhi",
    "signed length": OK + b"content-length: +2\r\n\r\nhi",
    "gzip, chunked": OK + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "te identity": OK + b"transfer-encoding: identity\r\n\r\nhi",
    "101": b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nhi",
    "status 99": b"HTTP/1.1 099 Odd\r\ncontent-length: 0\r\n\r\n",
    "four digits": b"HTTP/1.1 2000 Odd\r\n\r\n",
    "no http": b"<html>hello</html>\r\n\r\n",
    "bare lf": b"HTTP/1.1 200 OK\ncontent-length: 0\n\n",
    "folded header": OK + b"a: b\r\n c\r\ncontent-length: 0\r\n\r\n",
    "space before colon": OK + b"content-length : 0\r\n\r\n",
    "nul in a value": OK + b"a: b\0\r\ncontent-length: 0\r\n\r\n",
    "too many lines": OK + b"a: b\r\n" * (MAX_LINES + 1) + b"\r\n",
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_plain_response_is_refused_before_its_head_is_given(case: str) -> None:
    found = same_at_every_cut(REFUSED[case])
    assert (found.status, found.body, found.complete) == (0, b"", False)
    assert found.error


@pytest.mark.parametrize("broken", [b"zz\r\nhi", b"2\r\nhixx0\r\n\r\n", b"fffffffffffffffff\r\nhi", b"-2\r\nhi\r\n"])
def test_broken_chunks_end_the_body_with_an_error(broken: bytes) -> None:
    found = same_at_every_cut(CHUNKED + b"2\r\nok\r\n" + broken)
    assert found.body.startswith(b"ok")
    assert found.error and not found.complete


@pytest.mark.parametrize("size", [1000, 4096, MAX_HEAD - 1, MAX_HEAD, MAX_HEAD + 1, 10**6])
def test_the_head_is_limited_to_the_byte(size: int) -> None:
    end = b"\r\ncontent-length: 2\r\n\r\n"
    fits = OK + b"a: " + b"x" * (MAX_HEAD - len(OK) - 3 - len(end)) + end
    assert len(fits) == MAX_HEAD
    assert parsed(cuts(fits + b"hi", size)) == parsed([fits + b"hi"])
    assert parsed(cuts(fits + b"hi", size)).body == b"hi"
    too_long = OK + b"a:  " + fits[len(OK) + 3 :] + b"hi"
    assert parsed(cuts(too_long, size)).error == "response headers are too large"


def test_interim_responses_without_end_are_refused() -> None:
    assert parsed([b"HTTP/1.1 100 Continue\r\n\r\n"] * 3000).error == "response headers are too large"


@pytest.mark.parametrize("endless", [b"0\r\nx: " + b"y" * 300_000, b"5;x=" + b"y" * 300_000])
def test_trailers_and_chunk_extensions_without_end_are_refused(endless: bytes) -> None:
    found = parsed(cuts(CHUNKED + b"2\r\nhi\r\n" + endless, 4096))
    assert (found.body, found.error) == (b"hi", "chunk framing or trailers are too large")


def test_one_parser_takes_one_response_after_another() -> None:
    parser = ResponseParser()
    for number in range(3):
        parser.expect(bodiless=False)
        assert parser.status == 0 and not parser.pieces and not parser.complete
        parser.feed(OK + b"n: %d\r\ncontent-length: 1\r\n\r\n%d" % (number, number))
        assert parser.headers[0] == (b"n", b"%d" % number)
        assert parser.pieces == [b"%d" % number]
        assert parser.keep_alive


@given(st.binary(max_size=300), st.booleans())
def test_random_bytes_are_refused_or_wait_for_more(data: bytes, bodiless: bool) -> None:
    assert not parsed([data], bodiless).complete


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=20), st.data())
def test_random_chunks_come_back_as_they_were_at_random_cuts(chunks: list[bytes], data: st.DataObject) -> None:
    wire = CHUNKED + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    edges = sorted(data.draw(st.sets(st.integers(1, len(wire) - 1), max_size=12)))
    pieces = [wire[a:b] for a, b in zip([0, *edges], [*edges, len(wire)], strict=True)]
    found = parsed(pieces)
    assert found == parsed([wire])
    assert (found.body, found.complete, found.keep_alive) == (b"".join(chunks), True, True)


@given(st.sampled_from(sorted(COMPLETE)), st.integers(0, 200), st.binary(min_size=1, max_size=4))
def test_a_damaged_response_never_raises_anything_else(case: str, at: int, damage: bytes) -> None:
    data = COMPLETE[case][0]
    parsed(cuts(data[:at] + damage + data[at + len(damage) :], 7), closed=True)
