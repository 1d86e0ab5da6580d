"""Credentials, framing and addresses cross in neither direction; all else does, in its order."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.headers import request_id, to_client, to_upstream, value

NEVER = (
    "connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer transfer-encoding upgrade "
    "content-length expect via forwarded x-forwarded-for x-forwarded-host x-forwarded-proto x-forwarded-anything "
    "x-real-ip x-sluice-cache x-sluice-timeout"
).split()
OUT = "authorization x-api-key api-key cookie host accept-encoding origin referer sec-fetch-site sec-ch-ua".split()
BACK = (
    "set-cookie set-cookie2 server alt-svc access-control-allow-origin access-control-expose-headers proxy-status "
    "strict-transport-security clear-site-data nel report-to reporting-endpoints"
).split()


@pytest.mark.parametrize("name", NEVER + OUT)
def test_what_no_upstream_may_see(name: str) -> None:
    assert to_upstream([(name.encode(), b"x"), (b"x-kept", b"1")]) == [(b"x-kept", b"1")]


@pytest.mark.parametrize("name", NEVER + BACK)
def test_what_no_client_may_see(name: str) -> None:
    assert to_client([(name.encode(), b"x"), (b"x-kept", b"1")]) == [(b"x-kept", b"1")]


@pytest.mark.parametrize("turn", [to_upstream, to_client])
def test_what_connection_names_stays_behind(turn: object) -> None:
    lines = [
        (b"x-a", b"1"),
        (b"connection", b"close, X-A ,x-b"),
        (b"x-b", b"2"),
        (b"x-c", b"3"),
        (b"connection", b"x-d"),
    ]
    assert callable(turn)
    assert turn([*lines, (b"x-d", b"4")]) == [(b"x-c", b"3")]


NAMES = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=12).map(lambda name: f"q{name}".encode())
LINES = st.lists(st.tuples(NAMES, st.binary(max_size=12).filter(lambda text: b"." not in text and b":" not in text)))


@given(LINES)
def test_all_else_passes_in_order_and_byte_for_byte(lines: list[tuple[bytes, bytes]]) -> None:
    assert to_upstream(lines) == lines
    assert to_client(lines) == lines


def test_the_upstreams_request_id_gets_a_name_of_its_own() -> None:
    assert to_client([(b"x-request-id", b"a")]) == [(b"x-upstream-request-id", b"a")]
    assert to_client([(b"request-id", b"a")]) == [(b"x-upstream-request-id", b"a")]


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:8080/x", "10.1.2.3", "served by 192.168.0.7", "172.16.9.9:80", "169.254.169.254",
        "http://localhost/x", "http://LOCALHOST/x", "db.internal", "http://[::1]/x", "[fd00::1]:80", "fd00::1",
        "node=fe80::1;x", "0.0.0.0", "http://vllm-7.INTERNAL:8000",
    ],
)  # fmt: skip
def test_a_value_that_names_an_internal_address_stays_behind(text: str) -> None:
    assert to_client([(b"x-served-by", text.encode()), (b"x-request-id", text.encode())]) == []


@pytest.mark.parametrize(
    "text",
    [
        "https://api.openai.com/v1", "8.8.8.8", "1.2.3", "v1.2.3.4.5", "999.1.1.1", "12:30:45", "a.b", "W/\"x\"",
        "max-age=1; q=0.5", "2001:4860:4860::8888", "std::vector", "internal", "[1.5, 2]",
    ],
)  # fmt: skip
def test_headers_without_internal_addresses_pass(text: str) -> None:
    assert to_client([(b"x-served-by", text.encode())]) == [(b"x-served-by", text.encode())]


def test_names_that_clients_make_up_are_not_remembered_for_ever() -> None:
    from proxy.headers import _OUT

    for at in range(5000):
        to_upstream([(b"x-%d" % at, b"")])
    assert len(_OUT) <= 1024
    assert to_upstream([(b"authorization", b"x")]) == []


def test_the_first_line_of_a_name() -> None:
    assert value([(b"a", b"1"), (b"b", b"2"), (b"b", b"3")], b"b") == b"2"
    assert value([], b"b") is None


@given(st.binary(max_size=150))
def test_a_request_id_is_the_clients_if_sane_or_a_new_one(shown: bytes) -> None:
    made = request_id([(b"x-request-id", shown)])
    assert re.fullmatch(r"[A-Za-z0-9._:@=+/-]{1,128}", made)
    assert made == shown.decode("latin-1") or re.fullmatch(r"req_[0-9a-f]{24}", made)


def test_request_ids_are_kept_if_they_are_plain() -> None:
    assert request_id([(b"x-request-id", b"Aa_1.-")]) == "Aa_1.-"
    for strange in (b"", b"a b", b"a\n", b"a" * 129, b"\xff"):
        assert re.fullmatch(r"req_[0-9a-f]{24}", request_id([(b"x-request-id", strange)]))
    assert request_id([]) != request_id([])
