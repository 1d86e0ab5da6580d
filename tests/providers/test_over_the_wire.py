"""The providers against the doubles, over real sockets."""

from collections.abc import Iterator
from typing import Any

import httpx
import orjson
import pytest

from proxy.assembling import Assembler
from proxy.errors import SluiceError
from proxy.providers.contract import Answer, Order, Pause, Provider, Request, Target
from proxy.providers.failures import error_in_event
from proxy.providers.registry import provider
from proxy.providers.runpod import RunPodQueue
from proxy.sse import events, payload
from tests.doubles.faults import ContextLength, ErrorEvent, ErrorIn200, Status
from tests.doubles.openrouter import OpenRouterDouble
from tests.doubles.runpod import MODELS, RunPodDouble
from tests.doubles.runpod_jobs import (
    COMPLETED_WITH_ERROR,
    FAILED_JSON,
    FAILED_REPR,
    FAILED_TRACEBACK,
    NEVER,
    TIMED_OUT,
    Plan,
    Style,
)
from tests.doubles.server import Double
from tests.doubles.words import derived

OPTIONS = {"endpoint_id": "ep-double"}


class Wire:
    """Sends what a provider wants sent, as dispatch does, but without waiting: the doubles count polls, not seconds."""

    def __init__(self, double: Double, made: Provider, path: str = "") -> None:
        self.double, self.provider = double, made
        self.target = Target("up", "m", made, double.url.removesuffix(path), double.key)
        self.http = httpx.Client(trust_env=False)

    def order(self, model: str, stream: bool) -> Order:
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": stream}
        return Order("chat/completions", orjson.dumps(body), stream, [], self.target)

    def send(self, request: Request) -> Answer:
        headers = [(name.decode(), value.decode()) for name, value in request.headers]
        url = self.target.base + request.path
        answer = self.http.request(request.method, url, content=request.body, headers=headers)
        raw = [(name.lower(), value) for name, value in answer.headers.raw]
        return Answer(answer.status_code, raw, answer.content)

    def ask(self, model: str, stream: bool = False) -> bytes:
        """The answer of one call."""
        order = self.order(model, stream)
        answer = self.send(self.provider.request(order))
        if answer.status != 200:
            raise self.provider.failure(answer.status, answer.headers, answer.body)
        if not stream:
            return self.provider.whole(order, answer.body)
        reader = self.provider.reader(order)
        return reader.feed(answer.body) + reader.finish()

    def talk(self, stream: bool, most: int = 10_000) -> bytes:
        """The events of one conversation; left after so many steps, with the farewell sent."""
        assert isinstance(self.provider, RunPodQueue)
        conversation = self.provider.converse(self.order(MODELS[0], stream))
        answer, out = None, b""
        for _ in range(most):
            try:
                step = conversation.send(answer)
            except StopIteration:
                return out
            answer = self.send(step) if isinstance(step, Request) else None
            out += b"" if isinstance(step, Request | Pause) else step
        if farewell := self.provider.farewell(conversation):
            self.send(farewell)
        return out

    def catalog(self) -> list[Any]:
        steps = self.provider.catalog(self.target)
        request = next(steps)
        while True:
            try:
                request = steps.send(self.send(request))
            except StopIteration as end:
                return list(end.value or ())


@pytest.fixture
def queue() -> Iterator[Wire]:
    with RunPodDouble() as double:
        wire = Wire(double, provider("runpod", OPTIONS), "/ep-double")
        with wire.http:
            yield wire


@pytest.fixture
def openrouter() -> Iterator[Wire]:
    with OpenRouterDouble() as double:
        wire = Wire(double, provider("openrouter", {}))
        with wire.http:
            yield wire


def text(stream: bytes) -> object:
    gathered = Assembler()
    gathered.add(stream)
    return orjson.loads(gathered.whole())["choices"][0]["message"]["content"]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("style", ["new", "old", "old-chunks"])
def test_both_workers_give_the_same_answer(queue: Wire, style: Style, stream: bool) -> None:
    assert isinstance(queue.double, RunPodDouble)
    queue.double.style = style
    queue.double.plan(Plan(queued=2, working=3))
    assert text(queue.talk(stream)) == derived("hi")
    assert queue.double.cancels == []


@pytest.mark.parametrize("output", ["Hi", {"text": "Hi"}, {"response": "Hi"}])
def test_a_custom_handler_is_understood(queue: Wire, output: Any) -> None:
    assert isinstance(queue.double, RunPodDouble)
    queue.double.style, queue.double.handler = "custom", lambda given: output
    assert text(queue.talk(stream=True)) == text(queue.talk(stream=False)) == "Hi"


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("plan", "code", "says"),
    [
        (FAILED_JSON, "upstream_error", "CUDA out of memory"),
        (FAILED_TRACEBACK, "upstream_error", "boom"),
        (FAILED_REPR, "client_invalid_request", "refused"),
        (COMPLETED_WITH_ERROR, "client_invalid_request", "bad request"),
        (TIMED_OUT, "upstream_timeout", "longer"),
        (Plan(queued=3, lives=1), "upstream_error", "expired"),
    ],
)
def test_jobs_that_end_badly_say_why_and_show_nothing(
    queue: Wire, plan: Plan, code: str, says: str, stream: bool
) -> None:
    assert isinstance(queue.double, RunPodDouble)
    queue.double.plan(plan)
    with pytest.raises(SluiceError) as failed:
        queue.talk(stream)
    assert failed.value.code == code and says in failed.value.message
    assert "handler.py" not in failed.value.message and "pod-1" not in failed.value.message


def test_a_job_that_nobody_waits_for_is_cancelled(queue: Wire) -> None:
    assert isinstance(queue.double, RunPodDouble)
    queue.double.plan(NEVER)
    assert queue.talk(stream=True, most=20) == b""
    assert queue.double.cancels == list(queue.double.jobs)


@pytest.mark.parametrize("turn", [0, 1, 2])
def test_a_401_is_one_in_all_its_shapes(queue: Wire, turn: int) -> None:
    queue.target = Target("up", "m", queue.provider, queue.target.base, "rpa_WRONG")
    for _ in range(turn + 1):
        with pytest.raises(SluiceError) as failed:
            queue.talk(stream=False)
        assert failed.value.code == "upstream_auth_failed"


def test_runpods_models_are_listed_while_a_worker_runs(queue: Wire) -> None:
    assert isinstance(queue.double, RunPodDouble)
    assert queue.catalog() == []
    queue.double.workers["running"] = 1
    assert [model.id for model in queue.catalog()] == list(MODELS)


def test_the_openai_mode_is_transparent() -> None:
    with RunPodDouble() as double:
        wire = Wire(double, provider("runpod", OPTIONS | {"mode": "openai"}), "/ep-double")
        with wire.http:
            assert text(wire.ask(MODELS[0], stream=True)) == derived("hi")
            double.script(ContextLength())
            with pytest.raises(SluiceError) as failed:
                wire.ask(MODELS[0])
            assert failed.value.code == "context_length_exceeded"


@pytest.mark.parametrize("model", ["openai/gpt-4o", "openai/gpt-4o:nitro", "openai/gpt-4o:online"])
def test_openrouter_streams_and_answers(openrouter: Wire, model: str) -> None:
    assert text(openrouter.ask(model, stream=True)) == derived("hi")
    answer = orjson.loads(openrouter.ask(model))
    assert answer["choices"][0]["message"]["content"] == derived("hi") and answer["usage"]["cost"] > 0


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (401, "upstream_auth_failed"),
        (402, "upstream_auth_failed"),
        (408, "upstream_timeout"),
        (429, "upstream_rate_limited"),
        (502, "upstream_error"),
        (503, "upstream_overloaded"),
        (524, "upstream_timeout"),
        (529, "upstream_overloaded"),
    ],
)
def test_openrouters_statuses_become_our_errors(openrouter: Wire, status: int, code: str) -> None:
    openrouter.double.script(Status(status, retry_after=3))
    with pytest.raises(SluiceError) as failed:
        openrouter.ask("openai/gpt-4o", stream=True)
    assert (failed.value.code, failed.value.retry_after) == (code, 3.0)


def test_openrouters_errors_in_a_200(openrouter: Wire) -> None:
    openrouter.double.script(ErrorIn200())
    with pytest.raises(SluiceError):
        openrouter.ask("openai/gpt-4o")


@pytest.mark.parametrize("code", [429, "server_error"])
def test_openrouters_errors_in_mid_stream_are_found(openrouter: Wire, code: int | str) -> None:
    openrouter.double.script(ErrorEvent(5, code))
    stream = openrouter.ask("openai/gpt-4o", stream=True)
    said = [orjson.loads(data) for event in events(stream) if (data := payload(event)) and data != b"[DONE]"]
    assert [error_in_event(fields) is not None for fields in said] == [False] * (len(said) - 1) + [True]


def test_openrouters_catalogue_is_read(openrouter: Wire) -> None:
    models = openrouter.catalog()
    assert len(models) > 3 and all(model.inputs for model in models)
