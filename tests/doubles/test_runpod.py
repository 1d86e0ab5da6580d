"""The RunPod double: jobs by polling, both workers, custom handlers, and /openai/v1."""

from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from tests.doubles.faults import ContextLength, Status
from tests.doubles.runpod import MODELS, RunPodDouble
from tests.doubles.runpod_jobs import COMPLETED_WITH_ERROR, FAILED_JSON, FAILED_REPR, NEVER, TIMED_OUT, Plan, Style
from tests.doubles.words import derived
from tests.streams import text_of

CHAT: dict[str, Any] = {"model": MODELS[0], "messages": [{"role": "user", "content": "hi"}]}
FINAL = ("COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT")


class Caller:
    """Asks the queue as an adapter does."""

    def __init__(self, double: RunPodDouble) -> None:
        headers = {"authorization": f"Bearer {double.key}"}
        self.http = httpx.Client(base_url=double.url, headers=headers, trust_env=False)

    def run(self, operation: str = "run", stream: bool = False, form: str = "A") -> dict[str, Any]:
        body = {**CHAT, "stream": stream}
        route = {"openai_route": "/v1/chat/completions", "openai_input": body}
        mine = {"messages": CHAT["messages"], "stream": stream, "sampling_params": {"max_tokens": 200}}
        found: dict[str, Any] = self.http.post(f"/{operation}", json={"input": route if form == "A" else mine}).json()
        return found

    def poll(self, job: dict[str, Any], operation: str = "status") -> list[dict[str, Any]]:
        """The answers until a final status (of a stream: with nothing new)."""
        found: list[dict[str, Any]] = []
        while not found or found[-1]["status"] not in FINAL or found[-1].get("stream"):
            found.append(self.http.get(f"/{operation}/{job['id']}").json())
        return found


@pytest.fixture
def double() -> Iterator[RunPodDouble]:
    with RunPodDouble() as started:
        yield started


@pytest.fixture
def caller(double: RunPodDouble) -> Iterator[Caller]:
    opened = Caller(double)
    with opened.http:
        yield opened


def test_a_job_waits_works_and_completes(double: RunPodDouble, caller: Caller) -> None:
    double.plan(Plan(queued=2, working=1))
    job = caller.run()
    assert job == {"id": job["id"], "status": "IN_QUEUE"}
    told = caller.poll(job)
    assert [one["status"] for one in told] == ["IN_QUEUE", "IN_QUEUE", "IN_PROGRESS", "COMPLETED"]
    assert told[-1]["output"][0]["choices"][0]["message"]["content"] == derived("hi")


def test_a_new_workers_stream_is_fragments_of_sse(double: RunPodDouble, caller: Caller) -> None:
    double.plan(Plan(queued=1, working=3))
    told = caller.poll(caller.run(stream=True), "stream")
    pieces = [chunk["output"] for one in told for chunk in one["stream"]]
    assert any(not piece.endswith("\n\n") for piece in pieces[:-1])
    assert text_of("".join(pieces)) == derived("hi")
    assert told[-2]["status"] == "COMPLETED" and told[-2]["stream"]
    double.damage, double.cuts = True, (1,)
    damaged = caller.poll(caller.run(stream=True), "stream")
    assert "\ufffd" in "".join(chunk["output"] for one in damaged for chunk in one["stream"])


@pytest.mark.parametrize("style", ["old", "old-chunks"])
def test_outputs_of_old_workers(style: Style) -> None:
    with RunPodDouble(style=style) as double, (caller := Caller(double)).http:
        pieces = [chunk["output"] for one in caller.poll(caller.run(stream=True), "stream") for chunk in one["stream"]]
        if style == "old":
            assert all(piece.endswith("\n\n") for piece in pieces)
            assert text_of("".join(pieces)) == derived("hi")
            own = caller.poll(caller.run(form="B"))[-1]["output"]
            assert own == [{"choices": [{"tokens": [derived("hi")]}], "usage": own[0]["usage"]}]
            parts = caller.poll(caller.run(form="B", stream=True))[-1]["output"]
            assert "".join("".join(part["choices"][0]["tokens"]) for part in parts) == derived("hi")
            assert parts[-1]["usage"]["output"] == 60
        else:
            words = [one["choices"][0]["delta"].get("content", "") for piece in pieces for one in piece]
            assert "".join(words) == derived("hi")


def test_outputs_of_custom_handlers() -> None:
    with RunPodDouble(style="custom") as double, (caller := Caller(double)).http:
        double.handler = lambda given: {"text": "mine"}
        assert caller.poll(caller.run())[-1]["output"] == {"text": "mine"}
        double.handler = lambda given: (part for part in ("a", "b"))
        assert caller.poll(caller.run())[-1]["output"] == ["a", "b"]


@pytest.mark.parametrize(
    ("plan", "status", "error"),
    [
        (FAILED_JSON, "FAILED", "error_traceback"),
        (FAILED_REPR, "FAILED", "{'message': 'vLLM returned HTTP 400"),
        (TIMED_OUT, "TIMED_OUT", ""),
    ],
)
def test_failed_jobs_say_why(double: RunPodDouble, caller: Caller, plan: Plan, status: str, error: str) -> None:
    double.plan(plan)
    last = caller.poll(caller.run())[-1]
    assert last["status"] == status
    assert error in last.get("error", "")
    assert "output" not in last


def test_completed_with_an_error_too_long_and_lost(double: RunPodDouble, caller: Caller) -> None:
    double.plan(COMPLETED_WITH_ERROR, Plan(lives=1))
    assert caller.poll(caller.run())[-1]["output"][0]["object"] == "error"
    job = caller.run()
    codes = [caller.http.get(f"/status/{job['id']}").status_code for _ in range(2)]
    assert codes == [200, 404]
    double.script(ContextLength())
    assert "maximum context length" in caller.poll(caller.run())[-1]["error"]


def test_cancel_ends_a_job_that_would_never_start(double: RunPodDouble, caller: Caller) -> None:
    double.plan(NEVER)
    job = caller.run("runsync")
    assert job["status"] == "IN_QUEUE"
    assert caller.http.get("/health").json()["jobs"]["inQueue"] == 1
    assert caller.http.post(f"/cancel/{job['id']}").json() == {"id": job["id"], "status": "CANCELLED"}
    assert double.cancels == [job["id"]]
    assert caller.poll(job, "stream") == [{"status": "CANCELLED", "stream": []}]
    assert caller.run("runsync")["status"] == "COMPLETED"


def test_refused_requests_have_runpods_bodies(double: RunPodDouble, caller: Caller) -> None:
    bodies = [httpx.post(f"{double.url}/run", json={}).content for _ in range(3)]
    assert bodies == [b"", b'{"error":"Unauthorized"}', b"unauthorized"]
    assert caller.http.post("/run", json={"input": {}}).status_code == 400
    assert caller.http.post("/run", json={"input": {"a": 1}, "policy": {"ttl": 5}}).status_code == 400
    double.script(Status(429), on="/stream/")
    assert caller.http.get("/stream/x").status_code == 429
    assert caller.http.get("/status/x").status_code == 404


def test_openai_v1_streams_and_tells_its_window(double: RunPodDouble) -> None:
    question = openai.types.chat.ChatCompletionUserMessageParam(role="user", content="hi")
    with openai.OpenAI(base_url=f"{double.url}/openai/v1", api_key=double.key, max_retries=0) as client:
        chunks = list(client.chat.completions.create(model=MODELS[0], messages=[question], stream=True))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == derived("hi")
        assert client.models.list().data[0].model_dump()["max_model_len"] == 131_072
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(model="gpt-4o", messages=[question])
