import orjson
import pytest

from proxy.errors import SluiceError
from proxy.providers.registry import provider
from proxy.sse import events, payload
from tests.providers.targets import order

USAGE = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4, "queue_time": 0.1}
GROQ = (
    b'data: {"id":"c1","created":5,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""}}],'
    b'"x_groq":{"id":"req_1"}}\n\n'
    b'data: {"id":"c1","choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\n'
    b'data: {"id":"c1","created":5,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],'
    b'"x_groq":{"id":"req_1","usage":' + orjson.dumps(USAGE) + b"}}\n\n"
)
DONE = b"data: [DONE]\n\n"
STANDARD = b'data: {"id":"c1","choices":[],"usage":' + orjson.dumps(USAGE) + b"}\n\n"


def read(name: str, stream: bytes, size: int) -> bytes:
    at = provider(name, {})
    reader = at.reader(order(at, stream=True))
    out = b"".join(reader.feed(stream[start : start + size]) for start in range(0, len(stream), size))
    return out + reader.finish()


def usages(out: bytes) -> list[object]:
    found = [orjson.loads(data) for event in events(out) if (data := payload(event)) and data != b"[DONE]"]
    return [chunk["usage"] for chunk in found if chunk.get("usage") and chunk["choices"] == []]


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("openai", "api.openai.com/v1"),
        ("gemini", "generativelanguage.googleapis.com/v1beta/openai"),
        ("groq", "api.groq.com/openai/v1"),
        ("mistral", "api.mistral.ai/v1"),
        ("deepseek", "api.deepseek.com"),
        ("together", "api.together.xyz/v1"),
        ("fireworks", "api.fireworks.ai/inference/v1"),
        ("xai", "api.x.ai/v1"),
    ],
)
def test_a_name_and_a_key_are_all_a_vendor_needs(name: str, host: str) -> None:
    at = provider(name, {})
    assert at.base_url == f"https://{host}" and at.key_variable and not at.key_required
    assert at.base_url.endswith(at.usual_path)


@pytest.mark.parametrize("name", ["vllm", "lmstudio"])
def test_a_server_of_ones_own_needs_no_key(name: str) -> None:
    assert provider(name, {}).key_variable == ""


@pytest.mark.parametrize(
    ("name", "sent", "got", "changes"),
    [
        ("mistral", b'{"model":"m","seed": 1}', b'{"model":"m","random_seed": 1}', ("rename seed->random_seed",)),
        (
            "mistral",
            b'{"model":"m","user":"u","logit_bias":{},"stream_options":{"include_usage":true},"store":false,"n":1e0}',
            b'{"model":"m","n":1e0}',
            ("drop user", "drop logit_bias", "drop stream_options", "drop store"),
        ),
        (
            "deepseek",
            b'{"model":"m","max_completion_tokens":5}',
            b'{"model":"m","max_tokens":5}',
            ("rename max_completion_tokens->max_tokens",),
        ),
        (
            "gemini",
            b'{"model":"m","seed":1,"store":false,"metadata":null,"frequency_penalty":0,"presence_penalty":0,"n":1e0}',
            b'{"model":"m","n":1e0}',
            ("drop store", "drop metadata", "drop seed", "drop frequency_penalty", "drop presence_penalty"),
        ),
        ("mistral", b'{"model":"m","messages":[{"user":1,"seed":2}]}', None, ()),
        ("openai", b'{"model":"m","seed":1,"user":"u"}', None, ()),
    ],
)
def test_what_a_vendor_calls_otherwise_is_renamed_and_what_it_refuses_dropped(
    name: str, sent: bytes, got: bytes | None, changes: tuple[str, ...]
) -> None:
    at = provider(name, {})
    request = at.request(order(at, sent))
    assert (request.body, request.changes) == (got or sent, changes)
    assert (b"authorization", b"Bearer sk-planted-key-123456") in request.headers


@pytest.mark.parametrize("size", range(1, len(GROQ + DONE) + 1))
def test_groqs_usage_becomes_the_usage_event(size: int) -> None:
    out = read("groq", GROQ + DONE, size)
    assert out.startswith(GROQ) and out.endswith(DONE)
    assert usages(out) == [USAGE]


def test_groqs_usage_is_passed_on_without_done_too() -> None:
    out = read("groq", GROQ[:-2], 7)
    assert out.startswith(GROQ) and usages(out) == [USAGE]


@pytest.mark.parametrize("size", [1, 50, 10_000])
def test_a_usage_event_that_is_there_is_not_made_again(size: int) -> None:
    assert read("groq", GROQ + STANDARD + DONE, size) == GROQ + STANDARD + DONE


@pytest.mark.parametrize("stream", [b"data: no json\n\n" + DONE, b"data: 7\n\n" + DONE, b': x_groq "usage"\n\n' + DONE])
def test_rubbish_passes_the_odd_reader(stream: bytes) -> None:
    assert read("groq", stream, 3) == stream


def test_groqs_own_error_is_one() -> None:
    with pytest.raises(SluiceError) as failed:
        read("groq", b'data: {"choices":[],"x_groq":{"id":"r","error":"over capacity"}}\n\n', 9)
    assert failed.value.code == "upstream_error"


@pytest.mark.parametrize(
    ("name", "theirs", "ours"), [("mistral", b"model_length", b"length"), ("together", b"eos", b"stop")]
)
def test_a_vendors_finish_reason_is_translated_to_openais(name: str, theirs: bytes, ours: bytes) -> None:
    chunk = b'data: {"choices":[{"delta":{"content":"\\"finish_reason\\":"},"finish_reason":"%s"}]}\n\n' % theirs
    assert read(name, chunk, 5) == chunk.replace(theirs, ours)
    at = provider(name, {})
    body = b'{"choices":[{"message":{},"finish_reason": "%s"}]}' % theirs
    assert at.whole(order(at), body) == b'{"choices":[{"message":{},"finish_reason": "%s"}]}' % ours


def test_deepseeks_blank_lines_and_comments_pass() -> None:
    at = provider("deepseek", {})
    assert orjson.loads(at.whole(order(at), b'\n\n\n{"id":"1"}')) == {"id": "1"}
    stream = b": keep-alive\n\n: keep-alive\n\ndata: {}\n\n"
    assert read("deepseek", stream, 4) == stream


def test_geminis_errors_in_an_array_are_read() -> None:
    at = provider("gemini", {})
    body = b'[{"error":{"code":400,"message":"The input token count (9) exceeds the maximum","status":"INVALID"}}]'
    assert at.failure(400, [], body).code == "context_length_exceeded"
