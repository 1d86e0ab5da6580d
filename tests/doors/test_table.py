"""Paths lead where they are declared to lead, however they are written, and nowhere else."""

from time import perf_counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send

from proxy.doors.table import Endpoint, Found, Table, normalize_path
from tests.running import sluice


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError("not called here")


def endpoint(path: str, *methods: str) -> Endpoint:
    return Endpoint(path, frozenset(methods or ("GET",)), "open", app)


TABLE = Table(
    [endpoint("/"), endpoint("/chat/completions", "POST"), endpoint("/models", "GET", "HEAD"), endpoint("/models/*"),
     endpoint("/admin/personas", "GET"), endpoint("/admin/personas", "POST"), endpoint("/admin/personas/*", "DELETE")]
)  # fmt: skip


def found(path: bytes, method: str = "GET") -> tuple[str, str] | frozenset[str]:
    result = TABLE.find(path, method)
    return (result.endpoint.path, result.rest) if isinstance(result, Found) else result


@pytest.mark.parametrize(
    "path",
    [b"/chat/completions", b"/v1/chat/completions", b"/v1/v1/chat/completions", b"//v1//chat///completions//",
     b"/chat/completions/", b"/chat/completions/chat/completions", b"/v1/chat/completions/chat/completions/",
     b"/chat/completions/chat/completions/chat/completions"],
)  # fmt: skip
def test_a_path_may_be_written_as_clients_write_it(path: bytes) -> None:
    assert found(path, "POST") == ("/chat/completions", "")


@pytest.mark.parametrize(
    "path",
    [b"/v1%2fchat/completions", b"/chat%2Fcompletions", b"/V1/chat/completions", b"/v1chat/completions", b"/v2/chat/completions",
     b"/chat", b"/chat/completions/x", b"/chat/completions;x", b"/chat/completions%00", b"/./chat/completions",
     b"/x/../chat/completions", b"/chat\\completions", b"/model", b"chat/completions", b"/chat/completions\xff"],
)  # fmt: skip
def test_what_is_another_path_is_not_found(path: bytes) -> None:
    assert found(path, "POST") == frozenset()


def test_the_rest_of_an_open_end_stays_encoded() -> None:
    assert found(b"/v1/models/a%2Fb/c") == ("/models/*", "a%2Fb/c")
    assert found(b"/v1/models/") == ("/models", "")


def test_a_doubled_suffix_is_one_whichever_it_is() -> None:
    assert found(b"/v1/models/models") == ("/models", "")
    assert found(b"/models/a/a") == ("/models/*", "a/a")


def test_a_wrong_method_gets_those_there_are() -> None:
    assert found(b"/admin/personas", "PUT") == frozenset({"GET", "POST"})
    assert found(b"/admin/personas/x", "GET") == frozenset({"DELETE"})


@given(st.text("/v1chat", max_size=30))
def test_plain_is_plain_already(path: str) -> None:
    once = normalize_path("/" + path)
    assert normalize_path(once) == once
    assert once.startswith("/")
    assert "//" not in once


@pytest.mark.parametrize(
    "path", [b"/v1" * 20_000, b"/chat/completions" * 4_000, b"/" * 60_000, b"/models/" + b"x" * 60_000]
)
def test_a_long_path_takes_no_long_time(path: bytes) -> None:
    began = perf_counter()
    TABLE.find(path, "GET")
    assert perf_counter() - began < 0.05


def test_every_endpoint_of_the_real_app_declares_who_may_use_it() -> None:
    """The list is written out: who adds an endpoint says here who may use it."""
    with sluice("upstreams: {up: {provider: ollama}}") as running:
        table = running.app.runtime.front.table
    for each in table.endpoints:
        expected = (
            "admin" if each.path.startswith("/admin/") and each.access != "page" else
            "desk" if each.path == "/admin" else
            "vapi" if each.path.startswith("/vapi/") else each.access
        )  # fmt: skip
        assert each.access == expected, each.path
        if "POST" in each.methods or "PUT" in each.methods or "DELETE" in each.methods:
            assert each.access != "open", each.path
