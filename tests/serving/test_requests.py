"""Requests do not depend on how the network cuts them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import SluiceError
from proxy.serving.requests import Head, RequestReader

STREAM = (
    b"POST /a?b=c HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
    b"POST /%61 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nT: u\r\n\r\n"
    b"POST /u HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nhi"
    b"\r\nGET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /ignored HTTP/1.1\r\nHost: a\r\n\r\n"
)


class Taken:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, bytes, bool]] = []
        self.body = b""

    def on_request(self, head: Head, size: int, body: bytes | None = None) -> None:
        self.scope, self.keep_alive, self.body = head.scope, head.keep_alive, body or b""
        self.size = size
        if body is not None:
            self.on_end()

    def on_piece(self, piece: bytes) -> None:
        self.body += piece

    def on_end(self) -> None:
        self.requests.append((self.scope["method"], self.scope["path"], self.body, self.keep_alive))


@pytest.mark.parametrize("size", range(1, len(STREAM) + 1))
def test_requests_are_the_same_however_they_are_cut(size: int) -> None:
    taken = Taken()
    reader = RequestReader(taken)
    for at in range(0, len(STREAM), size):
        reader.feed(STREAM[at : at + size])
    assert taken.requests == [
        ("POST", "/a", b"abc", True),
        ("POST", "/a", b"abcde", True),
        ("POST", "/u", b"hi", True),
        ("GET", "/", b"", False),
    ]
    assert reader.phase == "idle"


def repeating() -> bytes:
    """Requests of one client: the same head with bodies of several lengths, other heads between them."""
    head = b"POST /v1/a HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\nX: %b\r\n\r\n%b"
    bodies = [(b"1", b"abc"), (b"1", b""), (b"1", b"d" * 40), (b"2", b"e"), (b"2", b"\r\n\r\n"), (b"1", b"POST /")]
    chunked = b"POST /v1/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nX: 2\r\n\r\n1\r\nf\r\n0\r\n\r\n"
    return b"".join(head % (len(body), x, body) for x, body in bodies) + chunked + head % (1, b"2", b"g")


@pytest.mark.parametrize("size", [*range(1, 200), 10_000])
def test_a_repeated_head_is_read_as_the_first_was(size: int) -> None:
    taken, data = Taken(), repeating()
    reader = RequestReader(taken)
    for at in range(0, len(data), size):
        reader.feed(data[at : at + size])
    bodies = [b"abc", b"", b"d" * 40, b"e", b"\r\n\r\n", b"POST /", b"f", b"g"]
    assert taken.requests == [("POST", "/v1/a", body, True) for body in bodies]
    assert (reader.phase, taken.scope["headers"]) == ("idle", [(b"host", b"a"), (b"x", b"2")])


HEADS = [
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\ncontent-length:2\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nConnection: close\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n",
    b"POST / HTTP/1.1\nHost: a\nContent-Length: 2\n\n",
    b"\r\ncontent-length: 2\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +2\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n folded: 1\r\n\r\n",
]


@given(heads=st.lists(st.sampled_from(HEADS), min_size=1, max_size=5))
def test_what_is_remembered_changes_nothing(heads: list[bytes]) -> None:
    """The same bytes in one piece per request, where heads are known again, and byte by byte, where none is."""
    seen = []
    for size in (None, 1):
        taken, failure = Taken(), ""
        reader = RequestReader(taken)
        try:
            for head in heads:
                data = head + b"ok"
                for at in range(0, len(data), size or len(data)):
                    reader.feed(data[at : at + (size or len(data))])
        except SluiceError as error:
            failure = f"{error.code} {error.status}"
        seen.append((taken.requests, failure))
    assert seen[0] == seen[1]


@given(pieces=st.lists(st.binary(max_size=40), max_size=8))
def test_bytes_become_requests_or_one_error(pieces: list[bytes]) -> None:
    reader = RequestReader(Taken())
    try:
        for piece in pieces:
            reader.feed(piece)
    except SluiceError as error:
        assert (error.code, error.status) == ("client_invalid_request", 400)


@pytest.mark.parametrize("first", [b"", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"])
@pytest.mark.parametrize("cut", [1000, 100_000])
@pytest.mark.parametrize("end", [b"\r\n\r\n", b""])
def test_a_large_head_is_refused_wherever_it_begins(first: bytes, cut: int, end: bytes) -> None:
    data = first + b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 200_000 + end
    reader = RequestReader(Taken())
    with pytest.raises(SluiceError) as caught:
        for at in range(0, len(data), cut):
            reader.feed(data[at : at + cut])
    assert caught.value.status == 431


def test_a_head_behind_a_large_body_in_one_piece_is_not_large() -> None:
    reader = RequestReader(Taken())
    head = b"GET / HTTP/1.1\r\nHost: a\r\nX: "
    reader.feed(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 65000\r\n\r\n" + bytes(65_000) + head)
    reader.feed(b"a" * 60_000)
    assert reader.phase == "head"


def test_what_the_taker_refuses_is_passed_on() -> None:
    class Refusing(Taken):
        def on_piece(self, piece: bytes) -> None:
            raise SluiceError("client_too_large", "no")

    with pytest.raises(SluiceError, match="client_too_large"):
        RequestReader(Refusing()).feed(STREAM)


def test_a_fault_of_ours_is_not_the_clients() -> None:
    class Broken(Taken):
        def on_end(self) -> None:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        RequestReader(Broken()).feed(STREAM)
