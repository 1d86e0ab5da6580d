import orjson
import pytest

from proxy.providers.registry import provider
from proxy.sse import DONE
from tests.providers.orders import Json, chunks, read
from tests.providers.targets import Answer, json, listed, order

ROOT = "http://127.0.0.1:8080"
MODELS = json(
    {
        "object": "list",
        "data": [
            {
                "id": "tiny",
                "owned_by": "llamacpp",
                "meta": {"n_ctx_train": 8192},
                "architecture": {"input_modalities": ["text", "image"]},
            }
        ],
    }
)


@pytest.mark.parametrize(("base", "path"), [(ROOT, "/v1/chat/completions"), (ROOT + "/v1", "/chat/completions")])
def test_it_is_asked_with_and_without_v1_in_the_address(base: str, path: str) -> None:
    at = provider("llamacpp", {})
    request = at.request(order(at, base=base, key=""))
    assert request.path == path and b"authorization" not in dict(request.headers)
    assert at.whole_by_stream and not at.key_required and not at.key_variable


SCHEMA = {"type": "json_schema", "name": "city", "strict": True, "schema": {"type": "object"}}


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (SCHEMA, {"type": "json_schema", "json_schema": SCHEMA}),
        ({"type": "json_object"}, {"type": "json_object"}),
        ({"type": "text"}, None),
        (None, None),
    ],
)
def test_a_response_has_its_format_where_the_server_reads_it(given: Json | None, wanted: Json | None) -> None:
    at = provider("llamacpp", {})
    asked = {"input": "Hi.", "text": {"format": given}}
    request = at.request(order(at, orjson.dumps(asked), endpoint="responses", base=ROOT))
    body = orjson.loads(request.body)
    assert body.pop("response_format", None) == wanted
    assert body["text"] == asked["text"] and body["input"] == "Hi."
    assert request.changes == (("set response_format",) if wanted else ())


def test_a_format_where_the_server_reads_it_stays_and_a_schema_keeps_its_bytes() -> None:
    at = provider("llamacpp", {})
    own = b'{"text": {"format": {"type": "json_object"}}, "response_format": null}'
    request = at.request(order(at, own, endpoint="responses", base=ROOT))
    assert (request.body, request.changes) == (own, ())
    schema = b'{"type": "json_schema", "schema": {"maximum": 123456789012345678901234567890}, "x": %b}'
    schema %= b"[" * 400 + b"]" * 400
    deep = at.request(order(at, b'{"text": {"format": %b}}' % schema, endpoint="responses", base=ROOT))
    assert deep.body.startswith(b'{"response_format":{"type":"json_schema","json_schema":%b}' % schema)


@pytest.mark.parametrize(
    ("properties", "context"),
    [
        (json({"default_generation_settings": {"n_ctx": 2048}}), 2048),
        (json({"default_generation_settings": None}), 8192),
        (json([]), 8192),
        (json({}, 501), 8192),
        (Answer(200, [], b"<html>"), 8192),
    ],
)
def test_the_window_that_is_there_counts_more_than_what_it_was_trained_for(properties: Answer, context: int) -> None:
    asked, models = listed(provider("llamacpp", {}), MODELS, properties, base=ROOT)
    assert [request.path for request in asked] == ["/v1/models", "/props"]
    assert [(model.id, model.context, model.inputs) for model in models] == [("tiny", context, ("text", "image"))]


@pytest.mark.parametrize(
    ("capabilities", "tools"),
    [({"supports_tools": False}, False), ({"supports_tools": True}, None), ({}, None), (None, None)],
)
def test_a_chat_template_without_tools_is_recognized(capabilities: object, tools: bool | None) -> None:
    _, models = listed(provider("llamacpp", {}), MODELS, json({"chat_template_caps": capabilities}), base=ROOT)
    assert models[0].tools is tools


def test_where_props_cannot_be_reached_training_counts() -> None:
    asked, models = listed(provider("llamacpp", {}), MODELS, base=ROOT + "/v1")
    assert [request.path for request in asked] == ["/models"] and models[0].context == 8192


@pytest.mark.parametrize("status", [400, 500])
def test_a_prompt_that_does_not_fit_is_reported_with_both_numbers(status: int) -> None:
    body = (
        b'{"error":{"code":400,"message":"the request exceeds the available context size","type":'
        b'"exceed_context_size_error","n_prompt_tokens":14429,"n_ctx":8192}}'
    )
    error = provider("llamacpp", {}).failure(status, [], body)
    assert (error.code, error.status, error.again) == ("context_length_exceeded", 400, "never")
    assert "14429" in error.message and "8192" in error.message


def test_a_model_that_is_loading_is_overload() -> None:
    error = provider("llamacpp", {}).failure(503, [], b'{"error":{"code":503,"message":"Loading model"}}')
    assert (error.code, error.again) == ("upstream_overloaded", "same")


@pytest.mark.parametrize(
    ("message", "status"),
    [
        ("Failed to parse input at pos 3", 400),
        ("audio input is not supported - hint: if this is unexpected, you may need to provide the mmproj", 400),
        ("Unknown reasoning format: zzz", 400),
        ("decode: out of memory", 502),
    ],
)
def test_a_bad_request_that_the_server_reports_as_its_own_fault_is_the_clients(message: str, status: int) -> None:
    body = orjson.dumps({"error": {"code": 500, "message": message, "type": "server_error"}})
    assert provider("llamacpp", {}).failure(500, [], body).status == status


def _several(stream: bytes, size: int, n: object = 2, prompt: object = None) -> list[Json]:
    at = provider("llamacpp", {})
    asked = order(at, base=ROOT, key="", endpoint="completions" if prompt else "chat/completions")
    asked.fields = {"n": n, "prompt": prompt}
    return chunks(read(at.reader(asked), [stream[start : start + size] for start in range(0, len(stream), size)]))


def _usage(made: object, prompt: object = 31) -> bytes:
    usage = {"completion_tokens": made, "prompt_tokens": prompt, "total_tokens": 99, "prompt_tokens_details": {}}
    return b"data: " + orjson.dumps({"id": "c", "choices": [], "usage": usage, "timings": made}) + b"\n\n"


SAID = b'data: {"id":"c","choices":[{"index":%d,"delta":{"content":"\\"usage\\""},"finish_reason":null}]}\n\n'


@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.parametrize("end", [DONE, b""])
def test_the_usage_of_several_choices_is_reported_once_for_all(size: int, end: bytes) -> None:
    """llama.cpp tells each by itself, as its choice ends."""
    found = _several(SAID % 0 + _usage(3) + SAID % 1 + _usage(4) + end, size)
    assert [chunk["choices"] == [] for chunk in found] == [False, False, True]
    assert found[-1]["usage"] == {
        "completion_tokens": 7, "prompt_tokens": 31, "total_tokens": 38, "prompt_tokens_details": {}
    }  # fmt: skip


def test_odd_counts_and_single_choices_pass_as_they_are() -> None:
    odd = SAID % 0 + _usage("3") + _usage(3, None) + DONE
    assert [chunk["usage"]["completion_tokens"] for chunk in _several(odd, 9)[1:]] == ["3", 3]
    assert _several(_usage(3) + _usage(4) + DONE, 9, n=1) == chunks(_usage(3) + _usage(4) + DONE)


@pytest.mark.parametrize(
    ("prompt", "n", "told", "usage"),
    [
        (["a", "bc"], 1, [(3, 5), (4, 7)], (7, 12)),
        ([[1], [2, 3]], None, [(3, 5), (4, 7)], (7, 12)),
        ("a", 2, [(3, 5), (4, 5)], (7, 5)),
        (["a", "bc"], 2, [(1, 5), (2, 5), (3, 7), (4, 7)], (10, 12)),
    ],
)
def test_the_last_usage_of_a_completion_is_that_of_all_choices_and_prompts(
    prompt: object, n: object, told: list[tuple[int, int]], usage: tuple[int, int]
) -> None:
    """It comes with the end of each choice."""
    ends = [
        {"choices": [{"index": at, "text": "", "finish_reason": "stop"}],
         "usage": {"completion_tokens": made, "prompt_tokens": asked, "total_tokens": made + asked}}
        for at, (made, asked) in enumerate(told)
    ]  # fmt: skip
    found = _several(b"".join(b"data: " + orjson.dumps(end) + b"\n\n" for end in ends) + DONE, 7, n, prompt)
    assert [chunk["choices"] for chunk in found] == [end["choices"] for end in ends]
    made, asked = usage
    assert found[-1]["usage"] == {"completion_tokens": made, "prompt_tokens": asked, "total_tokens": made + asked}
