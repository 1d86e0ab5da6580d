"""Who may use what: every endpoint declares its access, and nobody gets in without what that asks for."""

import gzip
import socket
from collections.abc import Iterator
from typing import Any, get_args

import httpx
import pytest

from proxy.doors.guard import Guard
from proxy.doors.sessions import Sessions
from proxy.doors.table import Access
from proxy.errors import SluiceError
from proxy.settings import ConfigError
from tests.doubles.openai import OpenAIDouble
from tests.running import Running, sluice
from tests.waiting import wait_for

KEY, TOKEN, UPSTREAM_KEY = "key-of-a-client", "token-of-the-operator", "key-of-the-upstream"
COOKIE = Sessions(TOKEN).opened(TOKEN, secure=False).decode().partition("=")[0]
CONFIG = """
access: {{keys: {keys}, client_keys: ["", {key}], admin_token: "{token}", metrics: {metrics}}}
upstreams:
  east: {{provider: openai, base_url: {east}, api_key: key-of-the-upstream}}
"""
HELLO = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
FOR_CLIENTS = {
    "/v1/chat/completions": HELLO,
    "/v1/completions": {"model": "gpt-4o", "prompt": "hi"},
    "/v1/embeddings": {"model": "text-embedding-3-small", "input": "hi"},
    "/v1/responses": {"model": "gpt-4o", "input": "hi"},
    "/v1/moderations": {"model": "omni-moderation-latest", "input": "hi"},
    "/v1/images/generations": {"model": "gpt-image-1", "prompt": "an owl"},
    "/v1/audio/speech": {"model": "tts-1", "input": "hi", "voice": "alloy"},
    "/v1/rerank": {"model": "gpt-4o", "query": "hi", "documents": ["a", "b"]},
    "/chat": {"message": "hi", "model": "gpt-4o"},
    "/v1/models": None,
    "/v1/models/east/gpt-4o": None,
}
"""The paths for clients (docs/http-api.md) with a body that is answered; None: a GET."""
FOR_OPERATORS = [
    ("GET", "/metrics"),
    ("GET", "/livez"),
    ("GET", "/readyz"),
    ("GET", "/health"),
    ("GET", "/admin"),
    ("GET", "/admin/provider-settings"),
    ("PUT", "/admin/provider-settings"),
    ("GET", "/admin/personas?upstream=east"),
    ("POST", "/admin/personas"),
    ("DELETE", "/admin/personas/nobody"),
    ("GET", "/admin/keys"),
    ("POST", "/admin/keys"),
    ("PATCH", "/admin/keys/nobody"),
    ("DELETE", "/admin/keys/nobody"),
    ("GET", "/admin/usage?by=day"),
    ("POST", "/admin/explain"),
    ("POST", "/admin/reload"),
    ("GET", "/admin/calls"),
    ("GET", "/admin/models?upstream=east"),
]
"""The paths for operators, and what the page asks besides."""
ADMIN = [(method, path) for method, path in FOR_OPERATORS if path.startswith("/admin")]


@pytest.fixture(scope="module")
def east() -> Iterator[OpenAIDouble]:
    with OpenAIDouble(key=UPSTREAM_KEY) as double:
        yield double


def configured(east: OpenAIDouble, keys: str = "required", token: str = TOKEN, metrics: str = "open") -> str:
    return CONFIG.format(east=east.url, keys=keys, key=KEY, token=token, metrics=metrics)


@pytest.fixture(scope="module")
def closed(east: OpenAIDouble) -> Iterator[Running]:
    """Client keys are required, an admin token is set, /metrics needs it."""
    with sluice(configured(east, metrics="admin")) as running:
        yield running


@pytest.fixture(scope="module")
def home(east: OpenAIDouble) -> Iterator[Running]:
    """As on a desk: nothing is required, and no admin token is set."""
    with sluice(configured(east, keys="open", token="")) as running:
        yield running


def ask(proxy: Running, path: str, method: str = "", body: Any = None, **headers: str) -> httpx.Response:
    with proxy.client() as client:
        lines = {name.replace("_", "-"): text for name, text in headers.items()}
        return client.request(method or ("GET" if body is None else "POST"), path, json=body, headers=lines)


def refused(answer: httpx.Response, status: int = 401, code: str = "invalid_api_key") -> bool:
    """Refused in OpenAI's form."""
    return (answer.status_code, answer.json()["error"]["code"]) == (status, code)


# The table of endpoints.


def test_every_endpoint_declares_who_may_use_it(closed: Running) -> None:
    """The front checks what is declared; for clients and Vapi the door itself does, through the gateway."""
    front = closed.app.runtime.front
    for endpoint in front.table.endpoints:
        assert endpoint.access in get_args(Access) and endpoint.methods, endpoint.path
        if endpoint.access not in ("open", "client", "vapi"):
            assert endpoint.access in front.checks, f"nobody checks {endpoint.access}"
        if endpoint.path.startswith("/admin"):
            assert endpoint.access in ("admin", "desk", "page"), endpoint.path


OPEN = {"/", "/livez", "/readyz", "/health", "/healthz", "/health/liveliness", "/health/readiness", "/static/*"}
DOCUMENTS = {"/openapi.json", "/docs", "/docs/style.css", "/docs/icon.svg"}


def test_what_is_open_is_known_by_name_and_only_read(closed: Running) -> None:
    """A new endpoint that anybody may use must be added here on purpose."""
    opened = [endpoint for endpoint in closed.app.runtime.front.table.endpoints if endpoint.access == "open"]
    assert {endpoint.path for endpoint in opened} <= OPEN | DOCUMENTS
    assert all(endpoint.methods <= {"GET", "HEAD"} for endpoint in opened)


def test_pages_change_nothing_but_sessions(closed: Running) -> None:
    """What browsers may send without a token or key is a login or a logout."""
    for endpoint in closed.app.runtime.front.table.endpoints:
        if endpoint.access == "page" and endpoint.methods - {"GET", "HEAD"}:
            assert endpoint.path in ("/admin/login", "/admin/logout"), endpoint.path


@pytest.mark.parametrize("path", FOR_CLIENTS)
def test_every_path_for_clients_answers(closed: Running, path: str) -> None:
    wait_for(lambda: closed.app.runtime.plan.catalog.shelves["east"].state == "fetched")
    for shown in (path, path.removeprefix("/v1"), f"{closed.url}/{path}/"):
        answer = ask(closed, shown, body=FOR_CLIENTS[path], authorization=f"Bearer {KEY}")
        assert answer.status_code == 200, (shown, answer.text)


@pytest.mark.parametrize(("method", "path"), FOR_OPERATORS)
def test_every_path_for_operators_answers(closed: Running, method: str, path: str) -> None:
    answer = ask(closed, path, method, authorization=f"Bearer {TOKEN}")
    assert answer.status_code != 405
    if answer.status_code == 404:
        assert "nobody" in answer.text, "404 only for a persona that is none"


# Clients.


@pytest.mark.parametrize("path", FOR_CLIENTS)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": "Bearer"},
        {"authorization": f"Basic {KEY}"},
        {"authorization": KEY},
        {"x_api_key": "wrong"},
        {"api_key": ""},
        {"authorization": f"Bearer {TOKEN}"},
        {"authorization": f"Bearer {UPSTREAM_KEY}"},
    ],
    ids=str,
)
def test_clients_need_a_key(closed: Running, east: OpenAIDouble, path: str, headers: dict[str, str]) -> None:
    calls = len(east.calls)
    assert refused(ask(closed, path, body=FOR_CLIENTS[path], **headers))
    assert len(east.calls) == calls


@pytest.mark.parametrize("form", [{"authorization": f"Bearer {KEY}"}, {"x_api_key": KEY}, {"api_key": KEY}], ids=str)
def test_a_key_is_taken_in_three_forms_and_never_passed_on(
    closed: Running, east: OpenAIDouble, form: dict[str, str]
) -> None:
    assert ask(closed, "/v1/chat/completions", body=HELLO, **form).status_code == 200
    sent = east.calls[-1]
    assert KEY not in str(sent.headers) and KEY.encode() not in sent.body
    assert sent.header("authorization") == f"Bearer {UPSTREAM_KEY}"
    assert east.keys_seen == {UPSTREAM_KEY}


def test_bearer_wins_where_a_client_sends_more_than_one(closed: Running) -> None:
    sent = {"authorization": f"Bearer {KEY}", "x_api_key": "something of the client's own"}
    assert ask(closed, "/v1/models", **sent).status_code == 200


def test_a_refusal_comes_before_the_body_is_looked_at(closed: Running) -> None:
    """Nothing of what a stranger sends is parsed, and nothing of what is here is told."""
    answer = ask(closed, "/v1/chat/completions", body={"model": 7})
    assert refused(answer) and "model" not in answer.text


def test_open_keys_take_anything(home: Running, east: OpenAIDouble) -> None:
    for headers in ({}, {"authorization": "Bearer whatever"}, {"x_api_key": "whatever"}):
        assert ask(home, "/v1/chat/completions", body=HELLO, **headers).status_code == 200
        assert "whatever" not in str(east.calls[-1].headers)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ("access: {keys: required, client_keys: ['']}", "client_keys"),
        ("access: {keys: open}\nserver: {host: 0.0.0.0}", "loopback"),
    ],
)
def test_an_open_or_keyless_door_to_the_world_does_not_start(east: OpenAIDouble, config: str, says: str) -> None:
    upstreams = f"upstreams: {{east: {{provider: openai, base_url: {east.url}}}}}"
    with pytest.raises(ConfigError, match=says), sluice(f"{config}\n{upstreams}\n"):
        pass


# Operators.


@pytest.mark.parametrize(("method", "path"), [*ADMIN, ("GET", "/metrics"), ("GET", "/admin/overview")])
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": f"Bearer {KEY}"},
        {"x_api_key": TOKEN},
        {"cookie": f"{COOKIE}=9999999999.0000"},
        {"cookie": f"{COOKIE}={TOKEN}"},
    ],
    ids=str,
)
def test_operators_need_the_token(closed: Running, method: str, path: str, headers: dict[str, str]) -> None:
    assert refused(ask(closed, path, method, **headers))


def test_the_token_opens_all_of_it(closed: Running) -> None:
    for path in ("/admin/provider-settings", "/admin/personas", "/admin/calls", "/admin/overview", "/metrics"):
        assert ask(closed, path, authorization=f"Bearer {TOKEN}").status_code == 200, path


def test_the_login_form_gives_a_cookie_that_opens_the_same_and_logging_out_ends_it(closed: Running) -> None:
    with closed.client() as client:
        assert refused(client.post("/admin/login", data={"token": "wrong"}))
        answer = client.post("/admin/login", data={"token": TOKEN})
        assert (answer.status_code, answer.headers["location"]) == (303, "/admin")
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and TOKEN not in cookie
        assert client.get("/admin/overview").status_code == 200
        assert client.post("/admin/logout").headers["location"] == "/admin/login"
        assert refused(client.get("/admin/overview"))
        assert "set-cookie" not in client.post("/admin/logout").headers  # whose name would tell strangers of the token


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_cookie_of_a_browser_that_sees_https_is_for_https_alone(closed: Running, scheme: str) -> None:
    host = closed.url.partition("://")[2]
    origin = {"origin": f"{scheme}://{host}"}  # https: a proxy before Sluice ends TLS
    with closed.client() as client:
        cookie = client.post("/admin/login", data={"token": TOKEN}, headers=origin).headers["set-cookie"]
    assert ("; Secure" in cookie) is (scheme == "https")


def test_a_body_over_the_admin_limit_blames_no_setting_that_would_not_help(home: Running) -> None:
    refusal = ask(home, "/admin/personas", "POST", body={"system": "x" * 2**20})
    assert refused(refusal, 413, "client_too_large") and "max_body" not in refusal.text


def test_without_a_token_admin_answers_on_loopback_only(home: Running) -> None:
    assert ask(home, "/admin/provider-settings").status_code == 200
    assert ask(home, "/metrics").status_code == 200


@pytest.mark.parametrize(
    "header", ["forwarded", "via", "x_real_ip", "x_forwarded_for", "x_forwarded_host", "x_forwarded_proto"]
)
def test_without_a_token_nothing_that_was_forwarded_gets_in(home: Running, header: str) -> None:
    """Behind a reverse proxy every peer is on loopback, and says nothing of who asks."""
    for path in ("/admin", "/admin/provider-settings"):
        assert refused(ask(home, path, **{header: "for=127.0.0.1"})), path


def test_a_browser_gets_the_page_that_leads_it_to_the_login(closed: Running) -> None:
    """A link from another site brings no SameSite=Strict cookie: only the page's own requests tell who is logged in."""
    assert "<!doctype html>" in ask(closed, "/admin", accept="text/html,*/*;q=0.8").text


@pytest.mark.parametrize(
    ("host", "peer"), [("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "192.0.2.7"), ("127.0.0.1", None)], ids=str
)
def test_without_a_token_neither_a_public_address_nor_a_far_peer_will_do(host: str, peer: str | None) -> None:
    """What a test on loopback cannot bring about over a socket."""
    guard = Guard("", host, False, Sessions(""))
    client = (peer, 5000) if peer else None
    with pytest.raises(SluiceError, match="admin token"):
        guard.admin({"headers": [(b"host", b"127.0.0.1")], "method": "GET", "client": client})


def test_an_empty_token_opens_nothing(home: Running) -> None:
    with home.client() as client:
        assert refused(client.post("/admin/login", data={"token": ""}))


# Other sites' pages, and other names for this address.


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "192.0.2.7", "[::2]"])
@pytest.mark.parametrize("path", ["/ui", "/admin", "/admin/provider-settings", "/admin/overview"])
def test_a_name_that_leads_here_by_rebinding_is_refused(home: Running, path: str, host: str) -> None:
    assert refused(ask(home, path, host=host), 403, "policy_forbidden")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:1", "[::1]:8080", "127.9.9.9"])
def test_own_names_are_fine(home: Running, host: str) -> None:
    assert ask(home, "/admin/provider-settings", host=host).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "https://localhost"])
@pytest.mark.parametrize(("method", "path"), [(method, path) for method, path in ADMIN if method != "GET"])
def test_a_foreign_page_changes_nothing(home: Running, method: str, path: str, origin: str) -> None:
    assert refused(ask(home, path, method, origin=origin), 403, "policy_forbidden")


@pytest.mark.parametrize("origin", ["http://evil.example", "null"])
def test_a_foreign_page_cannot_chat(home: Running, east: OpenAIDouble, origin: str) -> None:
    calls = len(east.calls)
    body = {"message": "hi", "model": "gpt-4o"}
    assert refused(ask(home, "/chat", body=body, origin=origin), 403, "policy_forbidden")
    assert len(east.calls) == calls
    assert ask(home, "/chat", body=body, origin=home.url).status_code == 200


def test_our_own_page_may(home: Running) -> None:
    answer = ask(home, "/admin/provider-settings", "PUT", {"default_upstream": None}, origin=home.url)
    assert answer.status_code == 200


def test_a_page_that_cannot_say_json_gets_nowhere(home: Running, east: OpenAIDouble) -> None:
    """A form needs no permission of the browser to be sent across sites; it is refused for its type alone."""
    calls = len(east.calls)
    with home.client() as client:
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
            sent = client.post("/v1/chat/completions", content=b'{"model":"gpt-4o"}', headers={"content-type": kind})
            assert sent.status_code == 415
            put = client.put("/admin/provider-settings", content=b"{}", headers={"content-type": kind})
            assert put.status_code == 415
    assert len(east.calls) == calls


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/chat", "/admin/explain"])
def test_a_compressed_body_is_reported_as_such_at_every_door(home: Running, path: str) -> None:
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    with home.client() as client:
        told = client.post(path, content=gzip.compress(b'{"model":"gpt-4o"}'), headers=headers)
    assert (told.status_code, told.json()["error"]["code"]) == (415, "client_invalid_request")


def test_browsers_learn_nothing_of_origins_that_are_not_listed(home: Running) -> None:
    answer = ask(home, "/v1/models", origin="http://evil.example")
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("path", ["/v1/models", "/admin/overview"])
def test_a_poisoned_path_or_host_opens_nothing(closed: Running, path: str) -> None:
    """Access belongs to endpoints: whatever stands around a path, the same endpoint asks for the same credentials."""
    host, port = closed.url.removeprefix("http://").split(":")
    shapes = [path, f"/{path}", f"{path}/", f"/v1{path}", f"{path}?x=/livez", f"/livez/..{path}", f"{path};/livez"]
    for shown in shapes:
        with socket.create_connection((host, int(port)), timeout=10) as sock:
            sock.sendall(f"GET {shown} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
            status = int(sock.makefile("rb").readline().split()[1])
        assert status in (401, 404), shown


def test_operators_see_the_models_without_a_client_key(closed: Running) -> None:
    with closed.client() as client:
        wait_for(lambda: client.get("/v1/models", headers={"x-api-key": KEY}).json()["data"])
        for_clients = client.get("/v1/models?upstream=east", headers={"x-api-key": KEY}).json()
        client.headers["authorization"] = f"Bearer {TOKEN}"
        assert client.get("/v1/models").status_code == 401
        assert client.get("/admin/models?upstream=east").json() == for_clients
        assert client.get("/admin/models").json()["data"] == for_clients["data"]
        assert client.get("/admin/models?upstream=nobody").status_code == 404
