from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.assembling import Assembler
from proxy.errors import SluiceError
from proxy.providers.runpod_output import Transcript, failed

CHUNK = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
CHUNKS = [
    CHUNK | {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "Hi"}, "finish_reason": None}]},
    CHUNK | {"choices": [{"index": 0, "delta": {"content": " there"}, "finish_reason": "stop"}]},
]
SSE = "".join(f"data: {orjson.dumps(chunk).decode()}\n\n" for chunk in CHUNKS) + "data: [DONE]\n\n"
WHOLE = {
    "id": "c",
    "object": "chat.completion",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi there"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 2, "completion_tokens": 2, "total_tokens": 4},
}


def told(outputs: list[Any], extract: str = "") -> dict[str, Any]:
    """The whole answer that these outputs make."""
    transcript, gathered = Transcript("m", "job-1", extract), Assembler()
    for output in outputs:
        gathered.add(transcript.take(output))
    gathered.add(transcript.finish())
    answer = orjson.loads(gathered.whole())
    assert isinstance(answer, dict)
    return answer


def text(answer: dict[str, Any]) -> object:
    (choice,) = answer["choices"]
    assert choice["finish_reason"] == "stop"
    return choice["message"]["content"]


@pytest.mark.parametrize("size", range(1, len(SSE) + 1))
def test_fragments_cut_anywhere_are_one_stream(size: int) -> None:
    transcript = Transcript("m", "j")
    out = b"".join(transcript.take(SSE[at : at + size]) for at in range(0, len(SSE), size)) + transcript.finish()
    assert out == SSE.encode()


@pytest.mark.parametrize(
    "outputs",
    [
        [SSE],
        [list(SSE)],  # a whole output that is the list of all fragments
        CHUNKS,  # old worker, RAW_OPENAI_OUTPUT=0
        [CHUNKS],
        [WHOLE],
        [[WHOLE]],
        [{"choices": [{"tokens": ["Hi there"]}], "usage": {"input": 2, "output": 2}}],
        [{"choices": [{"tokens": ["Hi"]}]}, {"choices": [{"tokens": [" the", "re"]}]}],
        [{"text": ["Hi there"], "input_tokens": 2, "output_tokens": 2}],
        [{"text": "Hi there"}],
        [{"response": "Hi there"}],
        [{"output": {"generated_text": "Hi there"}}],
        ["Hi there"],
        ["Hi", " there"],
        ["", None, [], "Hi there"],
    ],
)
def test_every_shape_of_output_is_the_same_answer(outputs: list[Any]) -> None:
    assert text(told(outputs)) == "Hi there"


@pytest.mark.parametrize(
    "start", [": ping\n\n", ": ping\r\n\r\n", "event: message\n", "\n\nid: 7\nretry: 10\n", "\ufeff", ":\n\n:\n\n"]
)
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_a_stream_may_begin_with_comments_and_fields(start: str, size: int) -> None:
    stream = start + SSE
    assert text(told([stream[at : at + size] for at in range(0, len(stream), size)])) == "Hi there"


@pytest.mark.parametrize(
    "words",
    [
        "d",
        "data",
        "data is nice",
        "  dat",
        "\ndata",
        ": ",
        ":) hello",
        ":)\nhello",
        "event: a party",
        "id: 7\nx",
        ":" * 2000,
    ],
)
def test_a_text_that_only_begins_like_a_stream_is_a_text(words: str) -> None:
    assert text(told(list(words))) == words


@pytest.mark.parametrize(
    ("output", "extract", "shown"),
    [
        ({"a": {"b": [{"c": "deep"}]}}, "a.b.0.c", "deep"),
        ([{"x": "one"}, {"x": "two"}], "1.x", "two"),
        ({"a": ["one", "two"]}, "a", "onetwo"),
        ({"n": 7}, "n", "7"),
    ],
)
def test_the_place_of_the_text_can_be_named(output: Any, extract: str, shown: str) -> None:
    assert text(told([output], extract)) == shown


def test_the_last_cumulative_usage_counts() -> None:
    outputs = [{"choices": [{"tokens": ["a"]}], "usage": {"input": 22, "output": n}} for n in (1, 2, 16)]
    usage = told(outputs)["usage"]
    assert usage == {"prompt_tokens": 22, "completion_tokens": 16, "total_tokens": 38}


def test_unreported_usage_is_not_made_up() -> None:
    assert "usage" not in told(["Hi"])
    assert "usage" not in told([{"text": "Hi", "input_tokens": 2, "output_tokens": -1}])


@pytest.mark.parametrize(
    ("output", "code"),
    [
        ([{"object": "error", "message": "bad", "type": "BadRequestError", "code": 400}], "client_invalid_request"),
        ({"error": {"message": "it broke"}}, "upstream_error"),
        ({"something": "else"}, "upstream_malformed"),
    ],
)
def test_an_output_can_be_an_error(output: Any, code: str) -> None:
    with pytest.raises(SluiceError) as failure:
        Transcript("m", "j").take(output)
    assert failure.value.code == code


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        ("it broke", "upstream_error", "it broke"),
        (
            "handler: it broke \ntraceback: Traceback (most recent call last): File secret.py",
            "upstream_error",
            "it broke",
        ),
        (
            '{"error_type":"<class \'X\'>","error_message":"it broke","error_traceback":"secret","hostname":"secret"}',
            "upstream_error",
            "it broke",
        ),
        ("{'message': 'it broke', 'type': 'worker_error', 'code': None}", "upstream_error", "it broke"),
        (
            '{\'message\': \'vLLM returned HTTP 400: {"error":{"message":"bad n","code":400}}\', \'code\': None}',
            "client_invalid_request",
            "bad n",
        ),
        (
            "{'message': 'vLLM returned HTTP 400: {\"message\":\"maximum context length is 9\"}', 'code': None}",
            "context_length_exceeded",
            "maximum context length is 9",
        ),
        ({"message": "it broke", "code": 503}, "upstream_overloaded", "it broke"),
        ("{'secret': open('x')}", "upstream_error", "{'secret': open('x')}"),
        (None, "upstream_error", "The job failed."),
        (7, "upstream_error", "The job failed."),
        ({"unknown": 1}, "upstream_error", "The upstream reported an error."),
    ],
)
def test_the_reason_of_a_failed_job_is_shown_without_internals(error: Any, code: str, message: str) -> None:
    failure = failed(error)
    assert failure.code == code and message in failure.message
    assert "secret" not in failure.message or "open" in message


@given(st.text() | st.text().map("{".__add__) | st.text().map(lambda text: repr({"message": text})) | st.integers())
def test_no_error_breaks_the_reading(error: Any) -> None:
    assert failed(error).message


@pytest.mark.parametrize(
    "error", ["{" * 15_000, "{" + "-" * 15_000, "{'\\d': '\\q'", "{" + "['" * 9_000, "{'a': " + "9" * 9_000 + "}"]
)
def test_a_hostile_repr_is_only_text(error: str) -> None:
    assert failed(error).message


@given(st.lists(st.text(min_size=1), min_size=1).filter(lambda parts: not "".join(parts).lstrip().startswith("data:")))
def test_any_texts_are_read_in_full(parts: list[str]) -> None:
    assert text(told(parts)) == "".join(parts)
