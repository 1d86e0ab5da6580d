"""Heads that two readers could read differently are refused."""

import pytest

from proxy.call import Headers
from proxy.errors import SluiceError
from proxy.serving.framing import SINGLE, check_head, check_host, check_size

HOST = (b"host", b"a")


@pytest.mark.parametrize(
    ("version", "target", "headers"),
    [
        ("1.1", b"/", [HOST]),
        ("1.1", b"//a/../b?c", [HOST]),
        ("1.1", b"*", [HOST]),
        ("1.0", b"/", []),
        ("1.1", b"/", [HOST, (b"accept", b"a"), (b"accept", b"b")]),
        ("1.1", b"/", [HOST, (b"transfer-encoding", b"Chunked")]),
    ],
)
def test_valid_heads_are_accepted(version: str, target: bytes, headers: Headers) -> None:
    check_head(version, target, headers, dict(headers))


@pytest.mark.parametrize("name", sorted(SINGLE))
def test_two_of_these_are_refused_even_if_equal(name: bytes) -> None:
    value = b"chunked" if name == b"transfer-encoding" else b"a"
    headers = [(b"host", b"a")] if name != b"host" else []
    with pytest.raises(SluiceError, match=f"{name.decode()} header occurs 2 times"):
        headers += [(name, value), (b"x", b"y"), (name, value)]
        check_head("1.1", b"/", headers, dict(headers))


@pytest.mark.parametrize(
    "host", [b"", b"a b", b"a/b", b"a?b", b"a#b", b"a@b", b"a:b", b"a:123456", b"[::1", b"a\xff", b"a\n"]
)
def test_hosts_that_are_none_are_refused(host: bytes) -> None:
    with pytest.raises(SluiceError, match="Host"):
        check_host(host)


def test_the_size_counts_names_values_and_line_ends() -> None:
    check_size(b"/" * 36, [(b"a" * 100, b"b" * 65_396)])
    with pytest.raises(SluiceError):
        check_size(b"/" * 37, [(b"a" * 100, b"b" * 65_396)])
