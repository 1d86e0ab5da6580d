"""Every answer has OpenAI's form, and browsers of allowed origins may read it."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from starlette.types import Receive, Scope, Send

from proxy.doors.front import Front, respond_json
from proxy.doors.table import Endpoint, Table
from proxy.errors import SluiceError


async def fine(scope: Scope, receive: Receive, send: Send) -> None:
    await respond_json(scope, send, {"rest": scope["sluice.rest"]})


async def broken(scope: Scope, receive: Receive, send: Send) -> None:
    raise SluiceError("upstream_rate_limited", "Slow down.", retry_after=3)


def keep_out(scope: Scope) -> None:
    raise SluiceError("invalid_api_key", "No.")


GET, POST = frozenset({"GET", "HEAD"}), frozenset({"POST"})
TABLE = Table(
    [Endpoint("/fine", GET, "open", fine), Endpoint("/fine", POST, "open", broken), Endpoint("/m/*", GET, "open", fine),
     Endpoint("/admin/x", GET, "admin", fine), Endpoint("/chat", GET, "chat", fine), Endpoint("/vapi/x", GET, "vapi", fine)]
)  # fmt: skip
ORIGIN = "https://page.example"


@dataclass
class Answer:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def code(self) -> str:
        code: str = orjson.loads(self.body)["error"]["code"]
        return code


def asked(method: str, path: str, *cors: str, **headers: str) -> Answer:
    answer = Answer()

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            assert not answer.status
            answer.status = message["status"]
            answer.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            assert len(answer.headers) == len(message["headers"])  # none is there twice
        else:
            answer.body += message["body"]

    async def receive() -> Any:
        raise AssertionError("nothing is read")

    lines = [(name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()]
    scope = {"type": "http", "method": method, "raw_path": path.encode(), "headers": lines}
    asyncio.run(Front(TABLE, {"admin": keep_out}, frozenset(cors))(scope, receive, send))
    return answer


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [("GET", "/nothing", 404, "client_invalid_request"), ("DELETE", "/fine", 405, "client_invalid_request"),
     ("POST", "/fine", 429, "upstream_rate_limited"), ("GET", "/admin/x", 401, "invalid_api_key"),
     ("OPTIONS", "/nothing", 404, "client_invalid_request")],
)  # fmt: skip
def test_failures_are_in_openais_form_and_have_an_id(method: str, path: str, status: int, code: str) -> None:
    answer = asked(method, path, x_request_id="mine")
    assert (answer.status, answer.code, answer.headers["x-request-id"]) == (status, code, "mine")
    assert int(answer.headers["content-length"]) == len(answer.body)


def test_a_wrong_path_is_named_as_far_as_it_is_short() -> None:
    """Most often a base URL is wrong, and SDKs do not show the URL that they made of it."""
    answer = asked("POST", "/v1/api/chat/completions")
    assert "/v1/api/chat/completions" in orjson.loads(answer.body)["error"]["message"]
    assert len(asked("POST", "/" + "x" * 5000).body) < 500


def test_another_method_gets_those_that_the_path_supports() -> None:
    refused, preflighted = asked("DELETE", "/fine"), asked("OPTIONS", "/fine")
    assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD, OPTIONS, POST")
    assert refused.headers["allow"] == preflighted.headers["allow"]
    assert "allow" not in asked("POST", "/fine").headers


def test_head_has_the_head_of_get_and_no_body() -> None:
    get, head = asked("GET", "/m/a%2Fb"), asked("HEAD", "/m/a%2Fb")
    assert orjson.loads(get.body) == {"rest": "a%2Fb"}
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", get.headers["content-length"])


def test_options_lists_the_methods() -> None:
    answer = asked("OPTIONS", "/fine")
    assert (answer.status, answer.body, answer.headers["allow"]) == (204, b"", "GET, HEAD, OPTIONS, POST")
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert asked("OPTIONS", "*").status == asked("OPTIONS", "/").status == 204


def test_a_preflight_of_an_allowed_origin() -> None:
    answer = asked(
        "OPTIONS", "/fine", ORIGIN, origin=ORIGIN, access_control_request_headers="authorization, x-stainless-os"
    )
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert answer.headers["access-control-allow-headers"] == "authorization, x-stainless-os"
    assert answer.headers["access-control-allow-methods"] == "GET, HEAD, POST"


@pytest.mark.parametrize("path", ["/fine", "/nothing"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_page_of_an_allowed_origin_may_read_answers_and_errors_alike(method: str, path: str) -> None:
    answer = asked(method, path, ORIGIN, origin=ORIGIN)
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert "x-request-id" in answer.headers["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in answer.headers


def test_the_preflight_of_a_wrong_path_succeeds_so_that_its_404_can_be_read() -> None:
    answer = asked("OPTIONS", "/nothing", ORIGIN, origin=ORIGIN, access_control_request_headers="authorization")
    assert (answer.status, answer.headers["access-control-allow-headers"]) == (204, "authorization")
    assert asked("OPTIONS", "/nothing", origin=ORIGIN).status == 404


@pytest.mark.parametrize("path", ["/admin/x", "/chat", "/vapi/x"])
def test_no_page_of_another_origin_may_read_what_is_not_for_it(path: str) -> None:
    """An origin of server.cors may call /v1; /chat refuses it, and its preflight must not say otherwise."""
    for method in ("GET", "OPTIONS"):
        answer = asked(method, path, ORIGIN, origin=ORIGIN)
        assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize(
    ("cors", "origin"),
    [((), ORIGIN), ((ORIGIN,), "https://evil.example"), ((ORIGIN,), ORIGIN + ".evil.example"), ((ORIGIN,), "null"),
     ((ORIGIN,), ORIGIN.upper()), ((ORIGIN,), "http://page.example")],
)  # fmt: skip
def test_other_origins_may_not(cors: tuple[str, ...], origin: str) -> None:
    for method in ("GET", "OPTIONS"):
        answer = asked(method, "/fine", *cors, origin=origin)
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_all_origins_may_where_the_config_says_so() -> None:
    assert asked("GET", "/fine", "*", origin=ORIGIN).headers["access-control-allow-origin"] == ORIGIN


def test_paths_that_clients_make_up_are_not_remembered() -> None:
    front = Front(TABLE, {})

    async def run() -> None:
        async def send(message: Any) -> None: ...
        async def receive() -> Any: ...

        for at in range(3000):
            scope = {"type": "http", "method": "GET", "raw_path": b"/%s/fine" % (b"/" * at)[:900], "headers": []}
            await front(scope, receive, send)
            await front({**scope, "raw_path": b"/m/%d" % at}, receive, send)

    asyncio.run(run())
    assert len(front._found) <= 1024
