"""What a RunPod job yields and how it goes on from poll to poll (worker-vllm's both designs)."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.doubles.openai_chat import chat_events, chat_whole
from tests.doubles.words import Said, pieces, prompt_tokens

Style = Literal["new", "old", "old-chunks", "custom"]
"""worker-vllm since v2.24; before it with RAW_OPENAI_OUTPUT=1; with 0; any other handler."""
Handler = Callable[[Any], Any]
BATCHES = (1, 3, 9, 27, 50)
TRACEBACK = (
    '{"error_type": "<class \'RuntimeError\'>", "error_message": "CUDA out of memory", "error_traceback": '
    '"Traceback (most recent call last):\\n  File \\"/src/handler.py\\", line 7, in handler\\nRuntimeError", '
    '"hostname": "pod-1", "worker_id": "w1", "runpod_version": "1.12.0"}'
)


@dataclass(frozen=True, slots=True)
class Plan:
    """How a job goes: how long it waits, how long it works, and how it ends."""

    queued: int = 0  # polls that find it IN_QUEUE
    working: int = 1  # polls that find it IN_PROGRESS
    status: str = "COMPLETED"
    error: str = ""  # told with FAILED
    fragments: int | None = None  # yields that ever come; None: all
    output: Any = None  # in place of what the worker yields
    lives: int | None = None  # polls after which its ttl is over: 404


NEVER = Plan(queued=10**9)
TIMED_OUT = Plan(status="TIMED_OUT", fragments=1)
FAILED_JSON = Plan(status="FAILED", error=TRACEBACK, fragments=1)
FAILED_TRACEBACK = Plan(
    status="FAILED",
    error='handler: boom \ntraceback: Traceback (most recent call last):\n  File "/src/handler.py", line 7',
    fragments=1,
)
FAILED_REPR = Plan(
    status="FAILED",
    error=repr({"message": 'vLLM returned HTTP 400: {"error":{"code":400}}', "type": "worker_error", "code": None}),
    fragments=0,
)
FLAT_ERROR = {"object": "error", "message": "bad request", "type": "BadRequestError", "param": None, "code": 400}
COMPLETED_WITH_ERROR = Plan(output=[FLAT_ERROR])


@dataclass(slots=True)
class Job:
    """One job in the queue."""

    id: str
    plan: Plan
    yields: list[Any]
    plain: bool = False  # the output is the one value itself, not a list of what was yielded
    polls: int = 0
    handed: int = 0  # yields that /stream has given out
    cancelled: bool = False
    known: list[Any] = field(init=False)

    def __post_init__(self) -> None:
        self.known = self.yields[: self.plan.fragments]

    @property
    def status(self) -> str:
        if self.cancelled:
            return "CANCELLED"
        if self.polls <= self.plan.queued:
            return "IN_QUEUE"
        return "IN_PROGRESS" if self.polls <= self.plan.queued + self.plan.working else self.plan.status

    @property
    def expired(self) -> bool:
        return self.plan.lives is not None and self.polls > self.plan.lives

    def told(self) -> dict[str, Any]:
        """The answer of /status (and /runsync)."""
        status = self.status
        told: dict[str, Any] = {"id": self.id, "status": status}
        if status != "IN_QUEUE":
            told |= {"delayTime": 31_618, "workerId": "worker-double"}
        if status in ("COMPLETED", "FAILED", "TIMED_OUT"):
            told["executionTime"] = 1437
        if status == "COMPLETED":
            told["output"] = self.known[0] if self.plain else self.known
        return told | ({"error": self.plan.error} if status == "FAILED" else {})

    def new(self) -> list[Any]:
        """What /stream gives out on this poll: a share while it works, the rest once it is over."""
        if self.status in ("IN_QUEUE", "CANCELLED"):
            return []
        steps = self.plan.working + 1
        done = min(steps, self.polls - self.plan.queued)
        upto = len(self.known) * done // steps
        found, self.handed = self.known[self.handed : upto], max(self.handed, upto)
        return found


def openai_body(given: Mapping[str, Any], style: Style, model: str) -> dict[str, Any]:
    """The chat request in a worker's input: forms A, B and C."""
    if "openai_input" in given:
        return dict(given["openai_input"])
    if style == "new" and "body" in given:
        return dict(given["body"])
    messages = given.get("messages") or [{"role": "user", "content": given.get("prompt", "")}]
    sampling = {"max_tokens": 100, **(given.get("sampling_params") or {})}
    return {"model": model, "messages": messages, "stream": bool(given.get("stream")), **sampling}


def yielded(given: Mapping[str, Any], body: dict[str, Any], said: Said, style: Style) -> Iterator[Any]:
    """What worker-vllm yields for this input; a new worker's stream in one piece, still to be cut."""
    prompt = prompt_tokens(body["messages"])
    options = {**(body.get("stream_options") or {}), "include_obfuscation": False}
    events = chat_events({**body, "stream_options": options}, said, prompt)
    if style == "old" and "openai_input" not in given:
        yield from _tokens(body, said, prompt)
    elif not body.get("stream"):
        yield chat_whole(body, said, prompt)
    elif style == "old":
        yield from ("".join(event.decode() for event in batch) for batch in _batches(events))
    elif style == "old-chunks":
        yield from ([json.loads(event[6:]) for event in batch] for batch in _batches(events[:-1]))
    else:
        yield b"".join(events).decode()


def cut(text: str, sizes: Sequence[int], damage: bool) -> list[str]:
    """The text in fragments of so many bytes in turn; with `damage` each is decoded alone, as the worker does it."""
    data = text.encode()
    found, start, at = [], 0, 0
    while start < len(data):
        end = start + sizes[at % len(sizes)]
        while not damage and end < len(data) and data[end] & 0xC0 == 0x80:
            end += 1
        found.append(data[start:end].decode(errors="replace"))
        start, at = end, at + 1
    return found


def _batches(events: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    start = 0
    for size in (*BATCHES, *[50] * len(events)):
        if start >= len(events):
            return
        yield events[start : start + size]
        start += size


def _tokens(body: Mapping[str, Any], said: Said, prompt: int) -> Iterator[dict[str, Any]]:
    """The old worker's own form: tokens, cumulative usage, no finish reason."""
    words = pieces(said.text)
    batches = _batches([word.encode() for word in words]) if body.get("stream") else iter([[said.text.encode()]])
    spent = 0
    for batch in batches:
        spent += len(batch) if body.get("stream") else len(words)
        choice = {"tokens": [token.decode() for token in batch]}
        yield {"choices": [choice], "usage": {"input": prompt, "output": spent}}
