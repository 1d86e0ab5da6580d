from collections.abc import Iterable, Mapping
from typing import Any

import orjson
import pytest

from proxy.assembling import Assembler
from proxy.errors import SluiceError
from proxy.providers.contract import Order, Pause, Request, Talker
from proxy.providers.registry import provider
from proxy.providers.runpod import RunPodQueue
from tests.providers.targets import Answer, json, listed, order
from tests.providers.test_runpod_output import SSE, WHOLE

OPTIONS = {"endpoint_id": "ep/1", "mode": "queue"}
QUEUE = RunPodQueue(OPTIONS)
OPENAI = provider("runpod", {"endpoint_id": "ep1", "mode": "openai"})
SUBMITTED = json({"id": "j1-u1", "status": "IN_QUEUE"})


def state(status: str, *outputs: Any, **more: Any) -> Answer:
    """An answer of /stream: what is new."""
    return json({"id": "j1-u1", "status": status, "stream": [{"output": output} for output in outputs]} | more)


class Talk:
    """A conversation driven by answers in turn; what it asked, how it paused, and what came out."""

    def __init__(self, answers: Iterable[Answer], stream: bool = True, options: Mapping[str, Any] = OPTIONS) -> None:
        self.runpod = RunPodQueue(options)
        self.order = order(self.runpod, b'{"model":"m", "n":1e0}', stream=stream)
        self.conversation = self.runpod.converse(self.order)
        self.answers = iter(answers)
        self.asked: list[str] = []
        self.requests: list[Request] = []
        self.pauses: list[Pause] = []
        self.out = b""

    def run(self) -> "Talk":
        """To the end, or to the failure."""
        answer: Answer | None = None
        while True:
            try:
                step = self.conversation.send(answer)
            except StopIteration:
                return self
            answer = None
            if isinstance(step, bytes):
                self.out += step
            elif isinstance(step, Pause):
                self.pauses.append(step)
            else:
                self.requests.append(step)
                self.asked.append(f"{step.method} {step.path}")
                answer = next(self.answers)

    def fails(self) -> SluiceError:
        with pytest.raises(SluiceError) as failure:
            self.run()
        return failure.value

    def farewell(self) -> Request | None:
        return self.runpod.farewell(self.conversation)


def text(out: bytes) -> object:
    gathered = Assembler()
    gathered.add(out)
    return orjson.loads(gathered.whole())["choices"][0]["message"]["content"]


def test_a_job_is_submitted_polled_and_streamed() -> None:
    talk = Talk(
        [SUBMITTED, state("IN_QUEUE"), state("IN_PROGRESS", SSE[:40], SSE[40:90]), state("COMPLETED", SSE[90:])]
    ).run()
    assert talk.out == SSE.encode()
    assert talk.asked == ["POST /ep%2F1/run", *["GET /ep%2F1/stream/j1-u1"] * 3]
    assert talk.requests[0].body == (
        b'{"input":{"openai_route":"/v1/chat/completions","openai_input":{"model":"m", "n":1e0}}}'
    )
    assert (b"authorization", b"Bearer sk-planted-key-123456") in talk.requests[1].headers
    assert [pause.queued for pause in talk.pauses] == [True, True, False]
    assert talk.farewell() is None


def test_a_whole_answer_is_polled_by_status_and_converted_to_events() -> None:
    answers = [SUBMITTED, json({"status": "IN_PROGRESS"}), json({"status": "COMPLETED", "output": [WHOLE]})]
    talk = Talk(answers, stream=False).run()
    assert talk.asked == ["POST /ep%2F1/run", *["GET /ep%2F1/status/j1-u1"] * 2]
    assert text(talk.out) == "Hi there" and talk.out.endswith(b"data: [DONE]\n\n")


def test_what_a_handler_only_yielded_is_gathered_for_a_whole_answer() -> None:
    """Without `return_aggregate_stream` the SDK ends the job with an empty output."""
    done = json({"status": "COMPLETED", "output": []})
    answers = [
        SUBMITTED,
        done,
        state("COMPLETED", "Hi"),
        json({}, 500),
        state("COMPLETED", " there"),
        state("COMPLETED"),
    ]
    talk = Talk(answers, stream=False).run()
    assert talk.asked[1:] == ["GET /ep%2F1/status/j1-u1", *["GET /ep%2F1/stream/j1-u1"] * 4]
    assert text(talk.out) == "Hi there" and talk.farewell() is None


def test_rest_that_comes_with_a_final_status_is_not_lost() -> None:
    answers = [SUBMITTED, state("COMPLETED", "a"), state("COMPLETED", "b"), state("COMPLETED")]
    assert text(Talk(answers).run().out) == "ab"


def test_a_hiccup_between_a_final_status_and_the_rest_is_borne() -> None:
    answers = [SUBMITTED, state("COMPLETED", "a"), Answer(500, [], b""), state("COMPLETED", "b"), state("COMPLETED")]
    talk = Talk(answers).run()
    assert text(talk.out) == "ab" and talk.farewell() is None


def test_a_handler_that_does_not_stream_is_asked_for_its_output() -> None:
    talk = Talk([SUBMITTED, state("COMPLETED"), json({"status": "COMPLETED", "output": {"text": "Hi"}})]).run()
    assert talk.asked[-1] == "GET /ep%2F1/status/j1-u1" and text(talk.out) == "Hi"


def test_the_place_of_a_handlers_text_is_an_option() -> None:
    answers = [SUBMITTED, json({"status": "COMPLETED", "output": {"a": [{"b": "Hi"}]}})]
    assert text(Talk(answers, False, OPTIONS | {"extract": "a.0.b"}).run().out) == "Hi"


def test_polls_slow_down_while_nothing_comes_and_back_off_when_told() -> None:
    waiting = [state("IN_QUEUE")] * 6
    busy = [Answer(429, [], b""), Answer(429, [(b"retry-after", b"5")], b"")]
    talk = Talk([SUBMITTED, *waiting, *busy, state("IN_PROGRESS", SSE[:30]), state("IN_PROGRESS", SSE[30:])]).run()
    seconds = [pause.seconds for pause in talk.pauses]
    assert seconds[0] == 0.25 and seconds == sorted(seconds[:9]) + [0.25]
    assert seconds[6] == 1.0 and seconds[7] >= 2.0 and seconds[8] == 5.0
    assert all(pause.queued for pause in talk.pauses[:9])


def test_a_hiccup_of_a_poll_is_borne_and_an_outage_is_not() -> None:
    assert text(Talk([SUBMITTED, Answer(500, [], b""), state("COMPLETED", "Hi"), state("COMPLETED")]).run().out) == "Hi"
    talk = Talk([SUBMITTED, *[Answer(502, [], b"<html>")] * 6])
    assert talk.fails().code == "upstream_error" and talk.farewell() is not None


@pytest.mark.parametrize("body", [b"", b'{"error":"Unauthorized sk-planted-key-123456"}', b"go away"])
@pytest.mark.parametrize("before", [[], [SUBMITTED]])
def test_a_401_is_one_whatever_it_says(body: bytes, before: list[Answer]) -> None:
    error = Talk([*before, Answer(401, [], body)]).fails()
    assert (error.code, error.again) == ("upstream_auth_failed", "next") and "planted" not in error.message


@pytest.mark.parametrize(
    ("answers", "code", "again"),
    [
        ([Answer(404, [], b"")], "upstream_error", "next"),
        ([Answer(429, [], b"")], "upstream_rate_limited", "same"),
        ([Answer(500, [], b"")], "upstream_error", "same"),
        ([json({"hello": 1})], "upstream_malformed", "next"),
        ([SUBMITTED, Answer(404, [], b"")], "upstream_error", "next"),
        ([SUBMITTED, state("CANCELLED")], "upstream_error", "next"),
        ([SUBMITTED, state("TIMED_OUT")], "upstream_timeout", "next"),
        ([SUBMITTED, state("FAILED"), json({"status": "FAILED", "error": "it broke"})], "upstream_error", "same"),
        ([SUBMITTED, json({"error": "job not found"})], "upstream_error", "same"),
        ([SUBMITTED, state("COMPLETED"), json({"status": "COMPLETED"})], "upstream_malformed", "next"),
        ([SUBMITTED, state("FAILED"), json({"id": "j1-u1"})], "upstream_malformed", "next"),
        ([SUBMITTED, json({"status": "COMPLETED", "stream": 5}), json({})], "upstream_malformed", "next"),
        (
            [SUBMITTED, state("COMPLETED", [{"object": "error", "message": "bad", "code": 400}])],
            "client_invalid_request",
            "never",
        ),
    ],
)
def test_what_can_go_wrong_with_a_job(answers: list[Answer], code: str, again: str) -> None:
    error = Talk(answers).fails()
    assert (error.code, error.again) == (code, again)


def test_a_job_that_is_left_is_cancelled_and_an_ended_one_is_not() -> None:
    talk = Talk([])
    conversation = talk.conversation
    assert talk.farewell() is None
    assert isinstance(conversation.send(None), Request)
    assert talk.farewell() is None
    assert conversation.send(SUBMITTED) == Pause(0.25, queued=True)
    farewell = talk.farewell()
    assert farewell is not None and (farewell.method, farewell.path) == ("POST", "/ep%2F1/cancel/j1-u1")
    conversation.close()
    assert talk.farewell() == farewell
    ended = Talk([SUBMITTED, state("FAILED", error="x"), json({"status": "FAILED", "error": "x"})])
    ended.fails()
    assert ended.farewell() is None


def test_an_answer_that_is_complete_leaves_nothing_to_cancel() -> None:
    talk = Talk([SUBMITTED, state("IN_PROGRESS", SSE)])
    step = talk.conversation.send(None)
    while not isinstance(step, bytes):
        step = talk.conversation.send(next(talk.answers) if isinstance(step, Request) else None)
    assert step == SSE.encode() and talk.farewell() is None


def test_a_body_above_runpods_limit_is_the_clients() -> None:
    big = Order("chat/completions", b'"' + b"x" * (10 * 1024 * 1024) + b'"', True, [], order(QUEUE).target)
    with pytest.raises(SluiceError) as failed:
        next(QUEUE.converse(big))
    assert (failed.value.code, failed.value.status) == ("client_too_large", 413)


def test_only_the_queue_is_a_conversation() -> None:
    assert isinstance(provider("runpod", {}), Talker) and not isinstance(OPENAI, Talker)
    assert QUEUE.endpoints == frozenset()


def test_the_openai_mode_passes_bytes() -> None:
    body = b'{"model":"m", "x":1e2}'
    request = OPENAI.request(order(OPENAI, body))
    assert (request.path, request.body) == ("/ep1/openai/v1/chat/completions", body)
    answer = orjson.dumps(WHOLE)
    assert OPENAI.whole(order(OPENAI), answer) is answer


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"error": "it broke"}, "upstream_error"),
        ({"id": "j", "status": "FAILED", "error": "{'message': 'it broke', 'code': None}"}, "upstream_error"),
        ({"id": "j", "status": "IN_QUEUE"}, "upstream_overloaded"),
        ({"id": "j", "status": "TIMED_OUT"}, "upstream_timeout"),
        ({"id": "j", "status": "COMPLETED"}, "upstream_malformed"),
        ({"id": "j", "status": "COMPLETED", "output": [{"error": {"message": "bad"}}]}, "upstream_error"),
        ({"error": {"message": "bad", "code": 400}}, "client_invalid_request"),
        ([{"object": "error", "message": "bad", "code": 400}], "client_invalid_request"),
    ],
)
def test_runpods_own_shapes_in_a_200_are_failures(body: object, code: str) -> None:
    with pytest.raises(SluiceError) as failed:
        OPENAI.whole(order(OPENAI), orjson.dumps(body))
    assert failed.value.code == code


@pytest.mark.parametrize("output", [WHOLE, [WHOLE], [SSE], "Hi there", [{"text": ["Hi", " there"]}]])
def test_a_finished_job_in_place_of_its_answer_is_opened(output: object) -> None:
    body = orjson.dumps({"id": "j1-u1", "status": "COMPLETED", "executionTime": 9, "output": output})
    answer = orjson.loads(OPENAI.whole(order(OPENAI), body))
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"]["content"] == "Hi there"


def test_a_traceback_never_shows() -> None:
    body = orjson.dumps({"error": '{"error_message":"it broke","hostname":"secret","error_traceback":"secret"}'})
    error = OPENAI.failure(500, [], body)
    assert "it broke" in error.message and "secret" not in error.message


@pytest.mark.parametrize("runpod", [QUEUE, OPENAI])
def test_models_are_asked_for_only_where_a_worker_runs(runpod: RunPodQueue) -> None:
    health = json({"jobs": {"inQueue": 0}, "workers": {"idle": 0, "running": 1}})
    asked, models = listed(runpod, health, json({"data": [{"id": "org/m", "max_model_len": 4096}]}))
    assert [request.path.rpartition("/")[2] for request in asked] == ["health", "models"]
    assert [(model.id, model.context) for model in models] == [("org/m", 4096)]
    assert listed(runpod, health, json({"data": []}))[1] is None  # it is still loading its model
    asked, models = listed(runpod, json({"jobs": {}, "workers": {"idle": 2, "running": 0}}))
    assert len(asked) == 1 and models is None


@pytest.mark.parametrize(
    ("answer", "code", "says"),
    [
        (json({"jobs": {"inQueue": 3}, "workers": {"idle": 0, "running": 0}}), "upstream_overloaded", "3 jobs wait"),
        (json([]), "upstream_overloaded", "no workers"),
        (Answer(401, [], b""), "upstream_auth_failed", "credentials"),
        (Answer(200, [], b"<html>"), "upstream_malformed", "not JSON"),
    ],
)
def test_health_says_why_it_would_not_answer(answer: Answer, code: str, says: str) -> None:
    with pytest.raises(SluiceError) as failed:
        listed(QUEUE, answer)
    assert failed.value.code == code and says in failed.value.message
