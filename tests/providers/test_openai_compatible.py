import orjson
import pytest

from proxy.errors import SluiceError
from proxy.providers.contract import Model, Order
from proxy.providers.openai_compatible import OpenAICompatible
from tests.providers.targets import Answer, json, listed, order, target

PROVIDER = OpenAICompatible()
BASE = "http://127.0.0.1:9/v1"
STREAM = (
    ": hi\r\n\r\n"
    'data: {"id":"1","choices":[{"index":0,"delta":{"content":"naïve 🦉"},"finish_reason":null}],"x":1e2}\n\n'
    "event: message\nid: 7\ndata:{}\ndata: {}\n\n"
    'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\r\n\r\n'
    "data: [DONE]"
).encode()


def test_the_body_goes_out_byte_for_byte() -> None:
    body = b'{ "model":"m",\n "future": 1e2, "messages":[] }'
    request = PROVIDER.request(order(PROVIDER, body, base=BASE))
    assert (request.method, request.path, request.body, request.changes) == ("POST", "/chat/completions", body, ())


@pytest.mark.parametrize(
    ("endpoint", "stream", "accept"),
    [
        ("chat/completions", True, b"text/event-stream"),
        ("chat/completions", False, b"application/json"),
        ("audio/speech", False, b"*/*"),
    ],
)
def test_headers_are_ours_the_configs_then_the_clients(endpoint: str, stream: bool, accept: bytes) -> None:
    client = [
        (b"accept", b"text/html"),
        (b"x-team", b"client"),
        (b"x-mine", b"1"),
        (b"x-stainless-os", b"Linux"),
        (b"authorization", b"Bearer client"),
    ]
    at = target(PROVIDER, base=BASE, key="k", headers=((b"x-team", b"config"),))
    request = PROVIDER.request(Order(endpoint, b"{}", stream, client, at))
    assert sorted(request.headers) == [
        (b"accept", accept),
        (b"authorization", b"Bearer k"),
        (b"content-type", b"application/json"),
        (b"x-mine", b"1"),
        (b"x-stainless-os", b"Linux"),
        (b"x-team", b"config"),
    ]


def test_without_a_key_nothing_is_authorized() -> None:
    request = PROVIDER.request(order(PROVIDER, base=BASE, key=""))
    assert b"authorization" not in dict(request.headers)


@pytest.mark.parametrize("size", range(1, len(STREAM) + 1))
def test_a_stream_passes_byte_for_byte_in_whole_events(size: int) -> None:
    reader = PROVIDER.reader(order(PROVIDER, base=BASE, stream=True))
    out = []
    for at in range(0, len(STREAM), size):
        if batch := reader.feed(STREAM[at : at + size]):
            assert batch.endswith((b"\n\n", b"\r\n\r\n", b"\r\n\r"))  # a lone CR ends a line too
            out.append(batch)
    assert b"".join(out) + reader.finish() == STREAM


@pytest.mark.parametrize(
    "body",
    [
        b'{"id":"1","choices":[]}',
        b'\n\n  {"id":"1"}\n',
        b'{"error":null,"output":[]}',
        b'{"choices":[{"message":{"content":"say \\"error\\": {}"}}]}',
        b'[{"embedding":[]}]',
    ],
)
def test_a_whole_answer_passes_byte_for_byte(body: bytes) -> None:
    assert PROVIDER.whole(order(PROVIDER, base=BASE), body) is body


def test_an_answer_that_is_no_json_by_nature_passes() -> None:
    assert PROVIDER.whole(order(PROVIDER, base=BASE, endpoint="audio/speech"), b"ID3") == b"ID3"
    for body in (b"<html>hello</html>", b'{"error":{"message":"x"}}'):
        with pytest.raises(SluiceError):
            PROVIDER.whole(order(PROVIDER, base=BASE, endpoint="audio/speech"), body)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"error":{"code":502,"message":"x"}}', "upstream_error"),
        (b'{"error":{"code":"rate_limit_exceeded","message":"x"}}', "upstream_rate_limited"),
        (b'[{"error":{"code":503,"message":"x"}}]', "upstream_overloaded"),
        (b'{"object":"error","message":"bad","type":"BadRequestError","code":400}', "client_invalid_request"),
        (b'{"choices":[{"message":{"content":"part"},"finish_reason": "error"}]}', "upstream_error"),
        (b"<html>hello</html>", "upstream_malformed"),
        (b'{"id":"1","choi', "upstream_malformed"),
        (b"", "upstream_malformed"),
        (b'"text"', "upstream_malformed"),
    ],
)
def test_a_200_can_be_a_failure(body: bytes, code: str) -> None:
    with pytest.raises(SluiceError) as failed:
        PROVIDER.whole(order(PROVIDER, base=BASE), body)
    assert failed.value.code == code


def test_a_failure_carries_the_wait() -> None:
    error = PROVIDER.failure(429, [(b"retry-after", b"7")], b"")
    assert (error.code, error.retry_after, error.again) == ("upstream_rate_limited", 7.0, "same")


@pytest.mark.parametrize(
    ("answer", "models"),
    [
        (
            {"object": "list", "data": [{"id": "a", "object": "model", "created": 7, "owned_by": "me"}]},
            [Model("a", created=7, owner="me")],
        ),
        ({"data": [{"id": "a", "max_model_len": 4096}]}, [Model("a", context=4096)]),
        ([{"id": "a"}, {"id": "b", "context_length": 8}], [Model("a"), Model("b", context=8)]),
        ({"data": [{"id": "models/gemini-x"}]}, [Model("gemini-x")]),
        ({"object": "list", "data": None}, []),
        ({"data": [None, {"id": None}, {"id": ""}, {"id": "a", "created": "x", "context_length": None}]}, [Model("a")]),
    ],
)
def test_a_catalogue_is_read(answer: object, models: list[Model]) -> None:
    asked, found = listed(PROVIDER, json(answer), base=BASE, key="k")
    assert found == models
    assert [(request.method, request.path) for request in asked] == [("GET", "/models")]
    assert (b"authorization", b"Bearer k") in asked[0].headers


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (json({"error": {"message": "x"}}, 401), "upstream_auth_failed"),
        (json({"error": {"message": "x", "code": 503}}), "upstream_overloaded"),
        (json({"hello": "world"}), "upstream_malformed"),
        (Answer(200, [], b"<html>"), "upstream_malformed"),
    ],
)
def test_what_is_no_catalogue_is_a_failure(answer: Answer, code: str) -> None:
    with pytest.raises(SluiceError) as failed:
        listed(PROVIDER, answer, base=BASE)
    assert failed.value.code == code


@pytest.mark.parametrize("status", [404, 405, 501])
def test_a_server_without_a_list_of_models_is_well_and_lists_nothing(status: int) -> None:
    assert listed(PROVIDER, Answer(status, [], b"<html>Not Found</html>"), base=BASE)[1] is None


def test_no_failure_shows_the_key() -> None:
    body = orjson.dumps({"error": {"message": "Incorrect API key provided: sk-planted-key-123456", "code": None}})
    for status in (400, 401, 403, 404, 429, 500):
        assert "planted" not in str(PROVIDER.failure(status, [], body))
