"""Operators come in by token or from this machine itself; foreign pages change nothing."""

import pytest
from starlette.types import Scope

from proxy.doors.guard import Guard, hostname
from proxy.doors.sessions import Sessions
from proxy.errors import SluiceError


def guard(token: str = "", host: str = "127.0.0.1", closed_metrics: bool = False) -> Guard:
    return Guard(token, host, closed_metrics, Sessions(token))


def scope(method: str = "GET", peer: str | None = "127.0.0.1", **headers: str) -> Scope:
    lines = {"host": "localhost:8080"} | {name.replace("_", "-"): text for name, text in headers.items()}
    encoded = [(name.encode(), text.encode("latin-1")) for name, text in lines.items()]
    return {"method": method, "headers": encoded, "client": None if peer is None else (peer, 1)}


def refused(check: object, asked: Scope) -> str:
    assert callable(check)
    try:
        check(asked)
    except SluiceError as error:
        return error.code
    return ""


def test_without_a_token_only_this_machine_comes_in() -> None:
    assert refused(guard().admin, scope()) == ""
    assert refused(guard().admin, scope(peer="::1")) == ""
    for peer in ("10.0.0.1", "not an address", None):
        assert refused(guard().admin, scope(peer=peer)) == "invalid_api_key"
    assert refused(guard(host="0.0.0.0").admin, scope()) == "invalid_api_key"


@pytest.mark.parametrize(
    "name",
    ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-x", "x-real-ip", "via"],
)
def test_nothing_that_was_forwarded_is_from_this_machine(name: str) -> None:
    assert refused(guard().admin, scope(**{name: "127.0.0.1"})) == "invalid_api_key"


@pytest.mark.parametrize(
    ("shown", "code"),
    [("Bearer token", ""), ("bearer token", ""), ("Bearer  token ", ""), ("Bearer wrong", "invalid_api_key"),
     ("token", "invalid_api_key"), ("Basic token", "invalid_api_key"), ("Bearer", "invalid_api_key"), ("", "invalid_api_key")],
)  # fmt: skip
def test_with_a_token_it_must_be_shown_from_anywhere(shown: str, code: str) -> None:
    for peer in ("127.0.0.1", "10.0.0.1"):
        assert refused(guard("token").admin, scope(peer=peer, authorization=shown)) == code
    assert refused(guard("token").admin, scope()) == "invalid_api_key"


def test_a_session_is_as_good_as_the_token() -> None:
    cookie = Sessions("token").opened("token", secure=False).decode().partition(";")[0]
    assert refused(guard("token").admin, scope(cookie=cookie)) == ""
    assert refused(guard("another").admin, scope(cookie=cookie)) == "invalid_api_key"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize(
    ("origin", "code"),
    [("http://localhost:8080", ""), ("https://localhost:8080", ""), ("http://evil.example", "policy_forbidden"),
     ("null", "policy_forbidden"), ("", "policy_forbidden"), ("http://localhost:8081", "policy_forbidden"),
     ("http://localhost:8080.evil.example", "policy_forbidden"), ("localhost:8080", "policy_forbidden")],
)  # fmt: skip
def test_a_foreign_page_changes_nothing(method: str, origin: str, code: str) -> None:
    for check in (guard().page, guard().admin):
        assert refused(check, scope(method, origin=origin)) == code


@pytest.mark.parametrize(
    ("host", "code"),
    [("localhost", ""), ("127.0.0.1:80", ""), ("[::1]:80", ""), ("127.9.9.9", ""), ("localhost.:80", ""),
     ("evil.example", "policy_forbidden"), ("127.0.0.1.evil.example", "policy_forbidden"), ("", "policy_forbidden"),
     ("localhost.evil", "policy_forbidden"), ("10.0.0.1", "policy_forbidden"), ("[::1", "")],
)  # fmt: skip
def test_a_loopback_address_is_served_under_no_other_name(host: str, code: str) -> None:
    assert refused(guard().page, scope(host=host)) == code
    assert refused(guard(host="0.0.0.0").page, scope(host=host)) == ""


def test_a_page_that_gave_a_loopback_address_its_own_name_calls_nothing() -> None:
    open_keys = Guard("", "127.0.0.1", False, Sessions(""), open_keys=True)
    check = open_keys.checks()["client"]
    for sent in ({"origin": "http://evil.example"}, {"sec_fetch_site": "same-origin"}):
        assert refused(check, scope("POST", host="evil.example:8080", **sent)) == "policy_forbidden"
        assert refused(check, scope("POST", **sent)) == ""
    assert refused(check, scope("POST", host="host.docker.internal:8080")) == ""  # no browser sends so little
    assert "client" not in guard().checks()
    named = Guard("", "127.0.0.1", False, Sessions(""), open_keys=True, cors=frozenset({"https://app.example"}))
    assert refused(named.client, scope("POST", host="llm.example", origin="https://app.example")) == ""


def test_metrics_are_open_or_the_operators() -> None:
    far = scope(peer="10.0.0.1", host="metrics.example")
    assert refused(guard("token").metrics, far) == ""
    assert refused(guard("token", closed_metrics=True).metrics, far) == "invalid_api_key"
    assert (
        refused(guard("token", closed_metrics=True).metrics, scope(peer="10.0.0.1", authorization="Bearer token")) == ""
    )


@pytest.mark.parametrize(
    ("host", "name"), [("a:1", "a"), ("a", "a"), ("[::1]:1", "::1"), ("[::1]", "::1"), ("a:b:1", "a:b"), ("", "")]
)
def test_hosts_without_their_ports(host: str, name: str) -> None:
    assert hostname(host) == name
