"""Response heads are one line per header, whatever the header holds."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.call import Headers
from proxy.errors import SluiceError
from proxy.serving.heads import error_response, response_head


def test_response_heads_are_serialized() -> None:
    assert response_head(200, []) == b"HTTP/1.1 200 OK\r\n"
    assert response_head(404, [(b"a", b"b"), (b"c", b"")]) == b"HTTP/1.1 404 Not Found\r\na: b\r\nc: \r\n"


@given(headers=st.lists(st.tuples(st.binary(), st.binary())))
def test_no_header_makes_a_line_of_its_own(headers: Headers) -> None:
    head = response_head(200, headers)
    lines = head.split(b"\r\n")
    assert len(lines) == len(headers) + 2 and lines[-1] == b""
    assert b"\0" not in head and head.count(b"\n") == head.count(b"\r") == len(headers) + 1


def test_error_responses_are_whole() -> None:
    error = SluiceError("proxy_overloaded", "full", retry_after=2)
    head, _, body = error_response(error, "r-1", [(b"date", b"now")]).partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"HTTP/1.1 503 Service Unavailable",
        b"date: now",
        b"content-type: application/json",
        b"content-length: %d" % len(body),
        b"x-request-id: r-1",
        b"retry-after: 2",
        b"connection: close",
    ]
    assert body == error.body()
