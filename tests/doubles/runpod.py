"""RunPod's serverless queue and its /openai/v1, as api.runpod.ai speaks them (runpod docs and SDK)."""

import json
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tests.doubles.openai_chat import CREATED, chat_events, chat_whole
from tests.doubles.runpod_jobs import FLAT_ERROR, Handler, Job, Plan, Style, cut, openai_body, yielded
from tests.doubles.server import Double
from tests.doubles.wire import Answer, Received, Wait, json_answer, sse, stream_answer, text_answer
from tests.doubles.words import Said, limited, prefilled, prompt_tokens, question, tool_call

MODELS = ("meta-llama/Llama-3.1-8B-Instruct",)
MAX_RUN, MAX_RUNSYNC = 10_000_000, 20_000_000  # bytes of a body


class RunPodDouble(Double):
    """`plan(...)` queues how the next jobs go; `style` is the worker; `handler` is what a custom one makes of an input.

    `cuts`: bytes of a new worker's fragments; `damage`: they may cut characters in two, as the real ones do.
    """

    name = "runpod"
    work = ("/run", "/runsync", "/openai/v1/chat/completions")
    context = 131_072  # tokens
    cuts: tuple[int, ...] = (37, 1, 211)
    damage = False
    stream_tells_error = True  # whether /stream gives the error of a failed job
    cold_seconds = 0.0  # before /openai/v1 sends anything

    def __init__(
        self,
        *,
        key: str = "rpa_DOUBLEKEY",
        models: Sequence[str] = MODELS,
        port: int = 0,
        style: Style = "new",
        endpoint: str = "ep-double",
    ) -> None:
        super().__init__(key=key, models=models, port=port)
        self.style = style
        self.base_path = f"/v2/{endpoint}"
        self.handler: Handler | None = None
        self.default = Plan()
        self.workers = {"idle": 1, "initializing": 0, "ready": 1, "running": 0, "throttled": 0, "unhealthy": 0}
        self.jobs: dict[str, Job] = {}
        self.cancels: list[str] = []
        self._plans: deque[Plan] = deque()
        self._refusals = 0
        self._operations: dict[str, Callable[[Received], Answer]] = {
            "run": self.run,
            "runsync": self.run_sync,
            "status": self.status,
            "stream": self.stream,
            "cancel": self.cancel,
            "retry": self.retry,
            "purge-queue": self.purge,
            "health": self.health,
        }

    def plan(self, *plans: Plan) -> None:
        """Queue how the next jobs go."""
        self._plans.extend(plans)

    # the HTTP side

    def answer(self, request: Received) -> Answer:
        if self.key_of(request) != self.key:
            return self.unauthorized()
        if not request.route.startswith(self.base_path + "/"):
            return self.failed(request, 404, "endpoint not found")
        path = request.route.removeprefix(self.base_path + "/")
        if path.startswith("openai/v1/"):
            return self.openai(request, path.removeprefix("openai/v1/"))
        operation = path.partition("/")[0]
        wanted = "GET" if operation in ("status", "stream", "health") else "POST"
        if operation not in self._operations:
            return self.failed(request, 404, "not found")
        if request.method != wanted and operation != "status":
            return self.failed(request, 405, "method not allowed")
        return self._operations[operation](request)

    def unauthorized(self) -> Answer:
        """401 with an empty body, JSON and plain text in turn: no source says what the real one is."""
        self._refusals += 1
        bodies = (Answer(401), json_answer({"error": "Unauthorized"}, 401), text_answer("unauthorized", 401))
        return bodies[(self._refusals - 1) % 3]

    # errors

    def failed(self, request: Received, status: int, message: str, code: str | None = None) -> Answer:
        return json_answer({"error": message}, status)

    def failed_event(self, request: Received, message: str, code: str | int) -> bytes:
        return sse({"error": {"message": message, "type": "InternalServerError", "param": None, "code": code}})

    def too_long(self, request: Received) -> Answer:
        """vLLM's own 400: at once on /openai/v1, as a failed job on the queue."""
        text = f"This model's maximum context length is {self.context} tokens. However, you requested more tokens."
        return self.refused(request, 400, text, "BadRequestError")

    def filtered(self, request: Received) -> Answer:
        """vLLM filters nothing: the model itself declines."""
        return self.answer(replace(request, said=Said("I'm sorry, but I can't help with that.")))

    def refused(self, request: Received, status: int, text: str, kind: str) -> Answer:
        """What vLLM refuses, as it comes back by the way that the request came."""
        error = {"error": {"message": text, "type": kind, "param": None, "code": status}}
        if "/openai/v1/" in request.route:
            return json_answer(error, status)
        if self.style == "new":
            text = f"vLLM returned HTTP {status}: {json.dumps(error)}"
            told = {"message": text, "type": "worker_error", "code": None}
            return self.submit([], Plan(status="FAILED", error=repr(told)))
        flat = {**FLAT_ERROR, "message": text, "type": kind, "code": status}
        return self.submit([flat], Plan())

    # the queue

    def run(self, request: Received) -> Answer:
        if wrong := self.bad_job(request, MAX_RUN):
            return wrong
        return self.work_on(request)

    def run_sync(self, request: Received) -> Answer:
        """At once where the plan has it end at once; else its state so far, with status 200."""
        if wrong := self.bad_job(request, MAX_RUNSYNC):
            return wrong
        answer = self.work_on(request)
        job = self.jobs[json.loads(answer.body)["id"]]
        if job.plan.queued == 0:
            job.polls = 1 + job.plan.working
        return json_answer(job.told())

    def bad_job(self, request: Received, limit: int) -> Answer | None:
        """400 for what is no job."""
        if len(request.body) > limit:
            return self.failed(request, 400, "request body too large")
        try:
            body = request.json
        except ValueError:
            return self.failed(request, 400, "invalid JSON")
        policy = body.get("policy") or {}
        if not body.get("input"):
            return self.failed(request, 400, "input is required")
        if not 5_000 <= policy.get("executionTimeout", 600_000) <= 604_800_000:
            return self.failed(request, 400, "executionTimeout must be between 5 seconds and 7 days")
        if not 10_000 <= policy.get("ttl", 86_400_000) <= 604_800_000:
            return self.failed(request, 400, "ttl must be between 10 seconds and 7 days")
        return None

    def work_on(self, request: Received) -> Answer:
        """The job that this input makes."""
        given = request.json["input"]
        plan = self._plans.popleft() if self._plans else self.default
        if self.style == "custom":
            yields, plain = self.handled(given, request)
            return self.submit(yields, plan, plain)
        body = openai_body(given, self.style, self.models[0])
        if body["model"] not in self.models:
            return self.refused(request, 404, f"The model `{body['model']}` does not exist.", "NotFoundError")
        if prompt_tokens(body["messages"]) > self.context:
            return self.too_long(request)
        found = list(yielded(given, body, self.spoken(request, body), self.style))
        if self.style == "new" and body.get("stream"):
            found = cut(found[0], self.cuts, self.damage)
        return self.submit(found, plan)

    def handled(self, given: Any, request: Received) -> tuple[list[Any], bool]:
        """What a custom handler makes of the input: yields, or one plain value."""
        value = self.handler(given) if self.handler else self.compose(request, json.dumps(given)).text
        many = isinstance(value, Generator)
        return (list(value) if many else [value]), not many

    def spoken(self, request: Received, body: Mapping[str, Any]) -> Said:
        said = self.compose(request, question(body["messages"]))
        if request.said is None and self.said is None:
            if call := tool_call(body.get("tools") or (), body.get("tool_choice")):
                return Said(tools=(call,), finish="tool_calls" if body.get("tool_choice") == "required" else "stop")
        said = replace(said, text=prefilled(body["messages"], said.text))
        return limited(said, body.get("max_completion_tokens") or body.get("max_tokens"))

    def submit(self, yields: list[Any], plan: Plan, plain: bool = False) -> Answer:
        name = f"{len(self.jobs):08x}-0000-4000-8000-000000000000-u1"
        if plan.output is not None:
            yields = plan.output if isinstance(plan.output, list) else [plan.output]
            plain = not isinstance(plan.output, list)
        self.jobs[name] = Job(name, plan, yields, plain)
        return json_answer({"id": name, "status": "IN_QUEUE"})

    def found(self, request: Received) -> Job | None:
        """The job in the path, if its time is not over."""
        job = self.jobs.get(request.route.rpartition("/")[2])
        if job:
            job.polls += 1
        return None if job is None or job.expired else job

    def status(self, request: Received) -> Answer:
        job = self.found(request)
        return json_answer(job.told()) if job else self.failed(request, 404, "job not found")

    def stream(self, request: Received) -> Answer:
        job = self.found(request)
        if job is None:
            return self.failed(request, 404, "job not found")
        told: dict[str, Any] = {"status": job.status, "stream": [{"output": output} for output in job.new()]}
        if job.status == "FAILED" and self.stream_tells_error:
            told["error"] = job.plan.error
        return json_answer(told)

    def cancel(self, request: Received) -> Answer:
        job = self.jobs.get(request.route.rpartition("/")[2])
        if job is None:
            return self.failed(request, 404, "job not found")
        self.cancels.append(job.id)
        job.cancelled = job.status in ("IN_QUEUE", "IN_PROGRESS")
        return json_answer({"id": job.id, "status": "CANCELLED"})

    def retry(self, request: Received) -> Answer:
        job = self.jobs.get(request.route.rpartition("/")[2])
        if job is None or job.status not in ("FAILED", "TIMED_OUT"):
            return self.failed(request, 400, "only failed jobs can be retried")
        job.polls = job.handed = 0
        return json_answer({"id": job.id, "status": "IN_QUEUE"})

    def purge(self, request: Received) -> Answer:
        queued = [job for job in self.jobs.values() if job.status == "IN_QUEUE"]
        for job in queued:
            job.cancelled = True
        return json_answer({"removed": len(queued), "status": "completed"})

    def health(self, request: Received) -> Answer:
        states = [job.status for job in self.jobs.values()]
        counts = {"completed": states.count("COMPLETED"), "failed": states.count("FAILED"), "retried": 0}
        counts |= {"inProgress": states.count("IN_PROGRESS"), "inQueue": states.count("IN_QUEUE")}
        return json_answer({"jobs": counts, "workers": self.workers})

    # /openai/v1

    def openai(self, request: Received, path: str) -> Answer:
        """vLLM's own answer, after a cold start without any bytes."""
        if path == "models" and request.method == "GET":
            return json_answer({"object": "list", "data": [self.card(name) for name in self.models]})
        if path != "chat/completions" or request.method != "POST":
            return json_answer({"detail": "Not Found"}, 404)
        body = request.json
        if body.get("model") not in self.models:
            return self.refused(request, 404, f"The model `{body.get('model')}` does not exist.", "NotFoundError")
        prompt = prompt_tokens(body["messages"])
        if prompt + (body.get("max_tokens") or 0) > self.context:
            return self.too_long(request)
        said = self.spoken(request, body)
        if body.get("stream"):
            quiet = {**(body.get("stream_options") or {}), "include_obfuscation": False}
            answer = stream_answer(chat_events({**body, "stream_options": quiet}, said, prompt))
        else:
            answer = json_answer(chat_whole(body, said, prompt))
        return replace(answer, before=(Wait(self.cold_seconds),))

    def card(self, name: str) -> dict[str, Any]:
        """vLLM's ModelCard."""
        rest: dict[str, Any] = {"root": name, "parent": None, "max_model_len": self.context, "permission": []}
        return {"id": name, "object": "model", "created": CREATED, "owned_by": "vllm", **rest}
