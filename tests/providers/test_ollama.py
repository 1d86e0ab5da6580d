from dataclasses import replace

import orjson
import pytest

from proxy.errors import SluiceError
from proxy.providers.contract import Answer, Model, Target
from proxy.providers.ollama import MOST_MODELS, Ollama
from tests.doubles import wire
from tests.doubles.ollama import OllamaDouble
from tests.doubles.server import Double
from tests.doubles.words import derived
from tests.providers.orders import Json, order, target
from tests.running import sluice

OLLAMA = Ollama()


def test_the_request_is_native_and_carries_no_key_at_home() -> None:
    headers = [(b"x-team", b"a"), (b"x-stainless-os", b"Linux"), (b"anthropic-beta", b"x"), (b"accept", b"*/*")]
    request = OLLAMA.request(order(OLLAMA, {}, headers=headers))
    assert (request.method, request.path) == ("POST", "/api/chat")
    assert request.headers == [(b"content-type", b"application/json"), (b"x-team", b"a")]


def test_a_key_is_sent_where_there_is_one_and_demanded_at_ollama_com() -> None:
    assert (b"authorization", b"Bearer k") in OLLAMA.request(order(OLLAMA, {}, at=target(OLLAMA, "k"))).headers
    cloud = Target("up", "m", OLLAMA, "https://ollama.com", "")
    with pytest.raises(SluiceError, match="OLLAMA_API_KEY") as caught:
        OLLAMA.request(order(OLLAMA, {}, at=cloud))
    assert caught.value.code == "upstream_not_configured"


@pytest.mark.parametrize(
    "status, said, code, seen, again",
    [
        (404, "model 'x' not found", "model_not_found", 404, "never"),
        (404, 'model "x" not found, try pulling it first', "model_not_found", 404, "never"),
        (404, None, "upstream_error", 502, "next"),
        (400, "registry.ollama.ai/library/m:latest does not support tools", "client_invalid_request", 400, "never"),
        (400, '"m" does not support thinking', "client_invalid_request", 400, "never"),
        (400, "invalid option", "client_invalid_request", 400, "never"),
        (
            400,
            "the prompt is longer than the context length currently available",
            "context_length_exceeded",
            400,
            "never",
        ),
        (400, "the input length exceeds the context length", "context_length_exceeded", 400, "never"),
        (401, "unauthorized", "upstream_auth_failed", 502, "next"),
        (403, "", "upstream_auth_failed", 502, "next"),
        (403, "cloud disabled", "upstream_auth_failed", 502, "next"),
        (429, "weekly limit", "upstream_rate_limited", 429, "same"),
        (499, "request canceled", "upstream_error", 502, "next"),
        (500, "llama runner process has terminated", "upstream_error", 502, "same"),
        (502, "cannot reach the cloud", "upstream_error", 502, "same"),
        (503, "server busy, please try again.  maximum pending requests exceeded", "upstream_overloaded", 503, "same"),
    ],
)
def test_failures_by_status_and_text(status: int, said: str | None, code: str, seen: int, again: str) -> None:
    body = b"404 page not found" if said is None else orjson.dumps({"error": said}) if said else b""
    error = OLLAMA.failure(status, [], body)
    assert (error.code, error.status, error.again) == (code, seen, again)
    if code not in ("upstream_auth_failed",) and said:
        assert said.split(",")[0] in error.message
    if code == "upstream_auth_failed" and said:
        assert said not in error.message


def test_the_address_of_the_runner_stays_inside() -> None:
    error = OLLAMA.failure(500, [], orjson.dumps({"error": 'Post "http://127.0.0.1:39887/completion": EOF'}))
    assert "39887" not in error.message and "EOF" in error.message


def _list(tags: Answer, shows: dict[str, Answer]) -> tuple[list[Model], list[str]]:
    listing = OLLAMA.catalog(target(OLLAMA))
    asked: list[str] = []
    request = next(listing)
    assert (request.method, request.path) == ("GET", "/api/tags")
    answer = tags
    while True:
        try:
            request = listing.send(answer)
        except StopIteration as stop:
            return list(stop.value), asked
        assert (request.method, request.path) == ("POST", "/api/show")
        asked.append(name := orjson.loads(request.body)["model"])
        answer = shows.get(name, Answer(404, [], b'{"error":"model not found"}'))


def _answer(fields: Json) -> Answer:
    return Answer(200, [], orjson.dumps(fields))


def test_the_catalogue_asks_for_each_model() -> None:
    tags = {"models": [{"name": "a:latest", "modified_at": "2026-08-04T08:52:19.385406123+02:00"}, {"model": "b"}, 5]}
    info = {"general.architecture": "llama", "llama.context_length": 8192}
    shown = {"model_info": info, "capabilities": ["completion", "tools", "vision"]}
    models, asked = _list(_answer(tags), {"a:latest": _answer(shown)})
    assert asked == ["a:latest", "b"]
    assert models == [
        Model(
            "a:latest",
            context=8192,
            inputs=("text", "image"),
            created=1785826339,
            owner="library",
            tools=True,
            extra={"capabilities": ("completion", "tools", "vision")},
        ),
        Model("b", owner="library"),
    ]


@pytest.mark.parametrize(
    ("parameters", "extra"),
    [
        ('stop                           "num_ctx 9"\nnum_ctx                        8192', {"num_ctx": 8192}),
        ("num_ctx                        8192\ntemperature 1", {"num_ctx": 8192}),
        ("num_ctx                        many", None),
        ("temperature                    1", None),
        (5, None),
    ],
)
def test_the_window_of_a_modelfile_is_read(parameters: object, extra: Json | None) -> None:
    models, _ = _list(_answer({"models": [{"name": "m"}]}), {"m": _answer({"parameters": parameters})})
    assert models[0].extra == extra


@pytest.mark.parametrize(
    ("capabilities", "chat"),
    [(["embedding"], False), (["completion", "embedding"], None), (["completion"], None), ([], None), (None, None)],
)
def test_a_model_that_can_only_embed_is_not_for_chats(capabilities: list[str] | None, chat: bool | None) -> None:
    shown = {} if capabilities is None else {"capabilities": capabilities}
    models, _ = _list(_answer({"models": [{"name": "bge-m3"}]}), {"bge-m3": _answer(shown)})
    assert models and models[0].chat is chat


@pytest.mark.parametrize("body", [b'{"models":null}', b'{"models":[]}'])
def test_no_models_are_no_failure(body: bytes) -> None:
    assert _list(Answer(200, [], body), {}) == ([], [])


def test_details_are_asked_for_so_many_models_only_and_may_be_rubbish() -> None:
    tags = {"models": [{"name": f"m{at}"} for at in range(MOST_MODELS + 5)]}
    models, asked = _list(_answer(tags), {"m0": Answer(200, [], b"<html>"), "m1": _answer({"model_info": []})})
    assert (len(models), len(asked)) == (MOST_MODELS + 5, MOST_MODELS)


@pytest.mark.parametrize(
    "answer, code",
    [
        (Answer(500, [], b""), "upstream_error"),
        (Answer(200, [], b"<html>"), "upstream_malformed"),
        (Answer(200, [], b'{"models":{}}'), "upstream_malformed"),
        (Answer(200, [], b"{}"), "upstream_malformed"),
    ],
)
def test_what_is_no_list_is_a_failure(answer: Answer, code: str) -> None:
    with pytest.raises(SluiceError) as caught:
        _list(answer, {})
    assert caught.value.code == code


def streaming(double: Double, request: wire.Received) -> wire.Answer:
    """A stream, whatever was asked for."""
    return double.answer(replace(request, body=orjson.dumps(request.json | {"stream": True})))


def test_a_stream_in_place_of_a_whole_answer_is_put_together() -> None:
    with (
        OllamaDouble() as double,
        sluice(f"upstreams: {{up: {{provider: ollama, base_url: '{double.url}'}}}}") as proxy,
    ):
        double.always = streaming
        answer = proxy.chat({"model": "up/llama3.2", "messages": [{"role": "user", "content": "hello"}]})
        assert answer.headers["content-type"] == "application/json"
        assert answer.json()["choices"][0]["message"]["content"] == derived("hello")
