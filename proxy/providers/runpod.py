"""RunPod serverless endpoints: the queue (run, poll, cancel), or the endpoint's own /openai/v1."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final
from urllib.parse import quote

from proxy.assembling import Assembler
from proxy.call import Headers
from proxy.errors import SluiceError
from proxy.providers.contract import Answer, Conversation, Model, Order, Pause, Provider, Request, Step, Talker, Target
from proxy.providers.failures import judge
from proxy.providers.openai_compatible import OpenAICompatible, parse_answer
from proxy.providers.prefilling import OPEN, leave_open
from proxy.providers.reports import Report
from proxy.providers.runpod_output import Transcript, error_report, failed
from proxy.shapes import list_of

_LARGEST: Final = 10 * 1024 * 1024  # largest body of /run in bytes
_SOONEST, _LATEST, _BACKED_OFF = 0.25, 1.0, 8.0  # seconds between polls; the limit is 2,000 in 10 s per endpoint
_PATIENCE: Final = 5  # consecutive polls that may fail
_FINAL: Final = ("COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT")
_STATES: Final = (*_FINAL, "IN_QUEUE", "IN_PROGRESS", "RUNNING")


def runpod(options: Mapping[str, Any]) -> Provider:
    """The provider for an upstream's `mode`: queue (the default) or openai."""
    return RunPod(options) if options.get("mode") == "openai" else RunPodQueue(options)


class RunPod(OpenAICompatible):
    """An endpoint's /openai/v1; answers of any status may come from RunPod itself."""

    name = "runpod"
    base_url = "https://api.runpod.ai/v2"
    usual_path = "/v2"
    key_variable = "RUNPOD_API_KEY"
    key_required = True
    endpoints: frozenset[str] | None = frozenset({"completions", "responses"})

    def __init__(self, options: Mapping[str, Any]) -> None:
        super().__init__()
        self._endpoint = "/" + quote(str(options.get("endpoint_id") or ""), safe="")
        self._extract = str(options.get("extract") or "")

    def request(self, order: Order) -> Request:
        """The order unchanged, except for settings by which worker-vllm continues an assistant message."""
        body, changes = leave_open(order, order.body, OPEN)
        asked = super().request(order.with_body(body) if changes else order)
        path = f"{self._endpoint}/openai/v1{asked.path}"
        return Request(path, asked.body, asked.method, asked.headers, tuple(changes))

    def whole(self, order: Order, body: bytes) -> bytes:
        """The same bytes, or the output of a finished job.

        Raises an error that a 200 holds: OpenAI's, RunPod's, or an unfinished job.
        """
        if b'"status"' in body:
            job = parse_answer(body)
            if isinstance(job, dict) and job.get("status") in _STATES and "choices" not in job:
                if job["status"] != "COMPLETED" or job.get("error") or not (output := job.get("output")):
                    raise ended(job)
                transcript, gathered = self.transcript(order, str(job.get("id"))), Assembler()
                gathered.add(transcript.take(output) + transcript.finish())
                body = gathered.whole()
        return super().whole(order, body)

    def transcript(self, order: Order, id: str) -> Transcript:
        """Converts a job's output into events."""
        return Transcript(order.target.model, id, self._extract)

    def judge(self, status: int, report: Report, headers: Headers | None = None) -> SluiceError:
        """By status; an error given as text is parsed like that of a job."""
        text = report.fields.get("message")
        inner = error_report(text) if isinstance(text, str) else report
        return super().judge(inner.status or status, replace(report, message=inner.message), headers)

    def failure(self, status: int, headers: Headers, body: bytes) -> SluiceError:
        """By status; a 401 always means a bad key, whatever its body says."""
        if status == 401:
            return judge(status, Report(), headers)
        return super().failure(status, headers, body)

    def catalog(self, target: Target) -> Generator[Request, Answer, Sequence[Model] | None]:
        """GET /health, and the models only if a worker runs: asking a cold endpoint would start (and bill) one.

        Idle workers are healthy and list nothing, as does one still loading its model. Raises upstream_overloaded with
        what /health says if there are no workers at all.
        """
        answer = yield self.ask(target, f"{self._endpoint}/health")
        if answer.status != 200:
            raise self.failure(answer.status, answer.headers, answer.body)
        health = parse_answer(answer.body)
        workers = _counts(health, "workers")
        if not any(workers.values()):
            raise SluiceError("upstream_overloaded", _reason(health), again="next")
        models = (yield from super().catalog(target)) if workers.get("running") else None
        return models or None

    def models_path(self, target: Target) -> str:
        """The path of its list of models."""
        return f"{self._endpoint}/openai/v1/models"

    def ask(self, target: Target, path: str, body: bytes = b"") -> Request:
        """A request to the queue's own API."""
        headers = [*self.headers(target).items(), (b"accept", b"application/json")]
        if body:
            return Request(path, body, "POST", [*headers, (b"content-type", b"application/json")])
        return Request(path, b"", "GET", headers)


class RunPodQueue(RunPod, Talker):
    """The queue: a call is a job. Uses the input form of worker-vllm that all its versions understand."""

    endpoints = frozenset()

    def converse(self, order: Order) -> Conversation:
        """Submits the order and polls until the job is done."""
        return Job(self, order)

    def farewell(self, conversation: Conversation) -> Request | None:
        """POST /cancel/{id} for a job that was submitted and has not been seen to end."""
        return conversation.farewell() if isinstance(conversation, Job) else None

    def submit(self, order: Order) -> Request:
        """POST /run. Raises client_too_large above RunPod's limit."""
        asked, changes = leave_open(order, order.body, OPEN)
        body = b'{"input":{"openai_route":"/v1/%s","openai_input":%s}}' % (order.endpoint.encode(), asked)
        if len(body) > _LARGEST:
            raise SluiceError("client_too_large", "The upstream takes at most 10 MB.")
        return replace(self.ask(order.target, f"{self._endpoint}/run", body), changes=tuple(changes))

    def job(self, order: Order, what: str, id: str) -> Request:
        """`what`: status, stream or cancel."""
        asked = self.ask(order.target, f"{self._endpoint}/{what}/{quote(id, safe='')}")
        return Request(asked.path, b"", "POST" if what == "cancel" else "GET", asked.headers)


class Job(Generator[Step, Answer | None, None]):
    """The conversation of one job. Whole answers come as events too."""

    def __init__(self, runpod: RunPodQueue, order: Order) -> None:
        self._runpod = runpod
        self._order = order
        self._steps = self._run()
        self._id = ""
        self._ended = False  # known to have ended
        self._queued = True
        self._pause = _SOONEST
        self._failures = 0

    def send(self, answer: Answer | None) -> Step:
        """The next step."""
        return self._steps.send(answer)

    def throw(self, *problem: Any) -> Step:
        """Ends the steps by an exception."""
        return self._steps.throw(*problem)

    def farewell(self) -> Request | None:
        """The request to send if the conversation is abandoned here."""
        return self._runpod.job(self._order, "cancel", self._id) if self._id and not self._ended else None

    def _run(self) -> Generator[Step, Answer | None, None]:
        yield from self._submitted()
        transcript = self._runpod.transcript(self._order, self._id)
        while True:
            yield Pause(self._pause, self._queued)
            job = yield from self._polled("stream" if self._order.stream else "status")
            outputs = _yielded(job)
            for output in outputs:
                if batch := transcript.take(output):
                    if b"\ndata: [DONE]" in b"\n" + batch:
                        self._ended = True  # nothing relevant can follow
                        yield batch
                        return
                    yield batch
            if job and self._ended and not outputs:
                break
            if job:
                self._pause = _SOONEST if outputs else min(_LATEST, self._pause * 1.5)
        yield from self._rest(job, transcript)

    def _submitted(self) -> Generator[Step, Answer | None, None]:
        answer = yield from _answered(self._runpod.submit(self._order))
        if answer.status == 404:
            raise SluiceError("upstream_error", "The upstream does not know this endpoint.", again="next")
        if answer.status != 200:
            raise self._runpod.failure(answer.status, answer.headers, answer.body)
        job = parse_answer(answer.body)
        if not isinstance(job, dict) or not isinstance(job.get("id"), str):
            raise ended(job)
        self._id = job["id"]
        self._queued = job.get("status") == "IN_QUEUE"

    def _polled(self, what: str) -> Generator[Step, Answer | None, dict[str, Any]]:
        """The state of the job; {}: the poll failed, and will be repeated."""
        answer = yield from _answered(self._runpod.job(self._order, what, self._id))
        if answer.status == 200:
            job = parse_answer(answer.body)
            if not isinstance(job, dict) or not isinstance(job.get("status"), str):
                raise ended(job)
            self._failures = 0
            self._queued = job.get("status") == "IN_QUEUE"
            self._ended = job.get("status") in _FINAL
            return job
        self._failures += 1
        if answer.status == 404:
            self._ended = True
            raise SluiceError("upstream_error", "The job has expired at the upstream.", again="next")
        failure = self._runpod.failure(answer.status, answer.headers, answer.body)
        if failure.again != "same" or self._failures > _PATIENCE:
            raise failure
        self._pause = min(_BACKED_OFF, max(2 * self._pause, failure.retry_after or 0))
        return {}

    def _rest(self, job: dict[str, Any], transcript: Transcript) -> Generator[Step, Answer | None, None]:
        """The end of a job: its output if none was streamed, and what the output lacks.

        Raises the reason if it failed.
        """
        unexplained = job["status"] == "FAILED" and not job.get("error")  # /stream does not say why
        if unexplained or (self._order.stream and transcript.empty and job["status"] == "COMPLETED"):
            while not (job := (yield from self._polled("status"))):
                yield Pause(self._pause)
        if job["status"] != "COMPLETED" or job.get("error"):
            raise ended(job)
        if transcript.empty and (batch := transcript.take(job.get("output"))):
            yield batch
        if transcript.empty and not self._order.stream:
            yield from self._gathered(transcript)
        if transcript.empty:
            raise SluiceError("upstream_malformed", "The job completed without any output.", again="next")
        if rest := transcript.finish():
            yield rest

    def _gathered(self, transcript: Transcript) -> Generator[Step, Answer | None, None]:
        """Output that a handler yielded and RunPod did not aggregate (`return_aggregate_stream`): only in /stream."""
        while True:
            job = yield from self._polled("stream")
            if not job:
                yield Pause(self._pause)
            elif outputs := _yielded(job):
                for output in outputs:
                    if batch := transcript.take(output):
                        yield batch
            else:
                return


def _yielded(job: Mapping[str, Any]) -> list[Any]:
    """The new output of a handler, from /stream."""
    parts = job.get("stream")
    return [part.get("output") for part in list_of(parts) if isinstance(part, dict)]


def _answered(request: Request) -> Generator[Step, Answer | None, Answer]:
    answer = yield request
    assert answer is not None  # each request is answered
    return answer


def ended(job: Any) -> SluiceError:
    """The error of a job that ended without an answer."""
    status = job.get("status") if isinstance(job, dict) else None
    if status == "TIMED_OUT":
        return SluiceError("upstream_timeout", "The job ran longer than the upstream allows.", again="next")
    if status == "CANCELLED":
        return SluiceError("upstream_error", "The job was cancelled at the upstream.", again="next")
    if status in ("IN_QUEUE", "IN_PROGRESS", "RUNNING"):
        return SluiceError("upstream_overloaded", "The upstream's job has not finished yet.", again="same")
    error = (job.get("error") or job.get("output")) if isinstance(job, dict) else None
    if error or status == "FAILED":
        return failed(error)
    return SluiceError("upstream_malformed", "The upstream's answer is not a job.", again="next")


def _counts(health: Any, part: str) -> dict[str, int]:
    found = health.get(part) if isinstance(health, dict) else None
    return {name: n for name, n in found.items() if isinstance(n, int)} if isinstance(found, dict) else {}


def _reason(health: Any) -> str:
    """The state of the workers in words, if `/health` counts none."""
    return f"The endpoint has no workers; {_counts(health, 'jobs').get('inQueue', 0)} jobs wait."
