"""A request is read into a call, or refused with what is wrong with it."""

import asyncio
import gzip
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.call import Call
from proxy.doors.reading import bearer, begin_call, fill, json_object, read_body, require_json
from proxy.errors import SluiceError

CHAT = {"model": "gpt-4o", "messages": []}


def read(body: bytes | dict[str, Any], endpoint: str = "chat/completions", **headers: str) -> Call:
    lines = {"content-type": "application/json"} | {name.replace("_", "-"): text for name, text in headers.items()}
    scope = {"headers": [(name.encode(), text.encode("latin-1")) for name, text in lines.items()]}
    call = begin_call(scope, "openai", endpoint)
    fill(call, body if isinstance(body, bytes) else orjson.dumps(body))
    return call


def refusal(body: bytes | dict[str, Any], endpoint: str = "chat/completions", **headers: str) -> SluiceError:
    with pytest.raises(SluiceError) as raised:
        read(body, endpoint, **headers)
    return raised.value


def collected(*messages: dict[str, Any], limit: int = 10) -> bytes:
    left = list(messages)

    async def receive() -> dict[str, Any]:
        return left.pop(0)

    return asyncio.run(read_body({}, receive, limit))


def piece(body: bytes, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


def test_a_body_comes_in_pieces_up_to_the_limit() -> None:
    assert collected(piece(b"x" * 10)) == b"x" * 10
    assert collected(piece(b"ab", True), {"type": "http.request", "more_body": True}, piece(b"c")) == b"abc"
    assert collected({"type": "http.request"}) == b""
    for too_much in ([piece(b"x" * 11)], [piece(b"x" * 6, True), piece(b"x" * 5, True)]):
        with pytest.raises(SluiceError) as raised:
            collected(*too_much)
        assert (raised.value.code, raised.value.status) == ("client_too_large", 413)


@pytest.mark.parametrize("before", [[], [piece(b"ab", True)]])
def test_a_client_that_leaves_while_it_sends(before: list[dict[str, Any]]) -> None:
    with pytest.raises(SluiceError, match="client_cancelled"):
        collected(*before, {"type": "http.disconnect"})


def test_what_a_call_is_made_of() -> None:
    body = b'{"messages": [], "model" : "gpt-4o", "stream": true, "prompt_cache_key": "k"}'
    call = read(body, authorization="Bearer sk-1", x_request_id="abc-1", x_sluice_timeout="1.5s", x_sluice_cache="off")
    assert (call.id, call.model, call.stream, call.credential) == ("abc-1", "gpt-4o", True, "sk-1")
    assert (call.timeout, call.cache, call.session) == (1.5, "off", "k")
    assert call.body is body
    assert body[call.model_at[0] : call.model_at[1]] == b'"gpt-4o"'
    assert "sk-1" not in repr(call)


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (b"", "client_invalid_json", None), (b"  ", "client_invalid_json", None), (b"{", "client_invalid_json", None),
        (b"\xff", "client_invalid_json", None), (b"[]", "client_invalid_request", None), (b"7", "client_invalid_request", None),
        (b"{}", "client_invalid_request", "model"), (b'{"model":null}', "client_invalid_request", "model"),
        (b'{"model":""}', "client_invalid_request", "model"), (b'{"model":7}', "client_invalid_request", "model"),
        (b'{"model":["m"]}', "client_invalid_request", "model"),
        (b'{"model":"m","model":"n","messages":[]}', "client_invalid_request", "model"),
        (b'{"model":"m","Model":"n","messages":[]}', "client_invalid_request", "model"),
        (b'{"mod\\u0065l":"m","model":"n","messages":[]}', "client_invalid_request", "model"),
        (b'{"model":"m"}', "client_invalid_request", "messages"),
        (b'{"model":"m","messages":{}}', "client_invalid_request", "messages"),
        (b'{"model":"m","messages":[],"stream":"yes"}', "client_invalid_request", "stream"),
        (b'{"model":"m","messages":[],"stream":1}', "client_invalid_request", "stream"),
        (b'{"model":"m","messages":[NaN]}', "client_invalid_json", None),
        (b'{"model":"' + b"m" * 100_000 + b'","messages":[]}', "client_invalid_request", "model"),
    ],
)  # fmt: skip
def test_what_is_no_call(body: bytes, code: str, param: str | None) -> None:
    error = refusal(body)
    assert (error.code, error.status, error.param) == (code, 400, param)
    assert len(error.message) < 1000


def test_only_chats_need_messages_and_null_is_no_stream() -> None:
    assert read({"model": "m", "input": "x"}, "embeddings").model == "m"
    assert read(CHAT | {"stream": None}).stream is False


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "", "application/jsonx", "multipart/form-data", "application/x-www-form-urlencoded", "text/json"],
)
def test_what_a_web_page_could_post_unasked_is_refused(kind: str) -> None:
    assert refusal(CHAT, content_type=kind).status == 415


def test_a_compressed_body_is_reported_as_such() -> None:
    told = refusal(gzip.compress(orjson.dumps(CHAT)), content_encoding="gzip")
    assert (told.status, told.code) == (415, "client_invalid_request") and "content-encoding" in told.message
    assert read(CHAT, content_encoding="identity").model == "gpt-4o"


@pytest.mark.parametrize("kind", [b"application/json", b"application/json; charset=utf-8", b"Application/JSON ;x"])
def test_json_may_be_said_in_other_words(kind: bytes) -> None:
    require_json(kind)


@pytest.mark.parametrize(
    ("shown", "key"),
    [(b"Bearer sk", "sk"), (b"bearer sk", "sk"), (b"BEARER  sk ", "sk"), (b"Bearer ", None), (b"Bearer", None), (b"sk", None),
     (b"Basic sk", None), (b"", None), (b"Bearer \xff", "\xff")],
)  # fmt: skip
def test_the_credential_of_a_header(shown: bytes, key: str | None) -> None:
    assert bearer(shown) == key


@pytest.mark.parametrize(
    ("headers", "key"),
    [({"x_api_key": "a"}, "a"), ({"api_key": "b"}, "b"), ({"authorization": "Bearer c", "x_api_key": "a"}, "c"), ({}, None),
     ({"authorization": "Basic c", "api_key": "b"}, "b")],
)  # fmt: skip
def test_where_a_client_key_may_stand(headers: dict[str, str], key: str | None) -> None:
    assert read(CHAT, **headers).credential == key


@pytest.mark.parametrize("text", ["soon", "0s", "-1s", "1", "1.s", "s", "1s 2s", "1d", "", "1e3s", "٣s", "00s"])
def test_a_timeout_that_is_none(text: str) -> None:
    assert refusal(CHAT, x_sluice_timeout=text.encode("ascii", "replace").decode()).status == 400


@pytest.mark.parametrize(("text", "seconds"), [("250ms", 0.25), ("5s", 5), ("1.5m", 90), ("2h", 7200), (" 1s ", 1)])
def test_x_sluice_timeout_is_parsed_to_seconds(text: str, seconds: float) -> None:
    assert read(CHAT, x_sluice_timeout=text).timeout == seconds


@pytest.mark.parametrize("text", ["on", "maybe", "OFF", ""])
def test_an_unknown_way_of_the_cache(text: str) -> None:
    assert refusal(CHAT, x_sluice_cache=text).status == 400


@pytest.mark.parametrize(
    ("headers", "session"),
    [({"x_sluice_session": "a"}, "a"), ({"x_session_id": "b"}, "b"), ({"x_sluice_session": "a", "x_session_id": "b"}, "a"),
     ({"x_session_id": "b", "x_sluice_session": "a"}, "a"), ({"x_sluice_session": ""}, "k"), ({}, "k")],
)  # fmt: skip
def test_the_session_is_read_from_headers_or_the_prompt_cache_key(headers: dict[str, str], session: str) -> None:
    assert read(CHAT | {"prompt_cache_key": "k"}, **headers).session == session


@given(st.binary(max_size=40))
def test_no_body_breaks_it(body: bytes) -> None:
    for whole in (body, b'{"model":' + body + b"}", b'{"model":"m","messages":[],' + body + b"}"):
        try:
            read(whole)
        except SluiceError as error:
            assert error.status == 400


@pytest.mark.parametrize("depth", [100, 1000, 100_000])
def test_depth_is_no_failure_of_ours(depth: int) -> None:
    try:
        json_object(b'{"a":' * depth + b"1" + b"}" * depth, [])
    except SluiceError as error:
        assert error.code == "client_invalid_json"
