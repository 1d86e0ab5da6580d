"""Reads from the events of a running stream: first content, finish, usage, failure."""

import json
import re
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any, Protocol

import orjson

from proxy.call import Call
from proxy.errors import SluiceError
from proxy.sse import events, payload
from proxy.usage import Usage, usage_of

_TEXT = b'"content":"'
_FINISH = re.compile(rb'"finish_reason"\s*:\s*"')
_NUMBER = re.compile(rb'"sequence_number"\s*:\s*(\d{1,9})')

FailureIn = Callable[[Mapping[str, Any]], SluiceError | None]
"""Returns the failure that an event reports, or None."""


class ChatWatch:
    """Watches a stream of chat (or text) completion events.

    Until the first content every event is parsed; after that only events that may hold anything besides content.
    """

    lingers = True  # after [DONE] only the end of the body follows
    failure = None  # failures are raised instead
    __slots__ = (
        "_asked",
        "_before",
        "_behind",
        "_ended",
        "_failure_in",
        "_own_usage",
        "_text_at",
        "content_at",
        "done",
        "finished",
        "last_at",
        "malformed",
        "sound",
        "usage",
    )

    def __init__(self, failure_in: FailureIn, own_usage: bool, choices: int = 1) -> None:
        self._failure_in = failure_in
        self._asked = choices
        self._ended: set[str] = set()  # indexes of finished choices
        self._own_usage = own_usage  # we asked for the usage event, not the client
        self.content_at: float | None = None  # perf_counter at the first content
        self.last_at: float | None = None  # and at the last bytes
        self.finished = False
        self.done = False
        self.malformed = 0  # events that were not JSON
        self.sound = b""  # the part of the batch before the failure
        self.usage: Usage | None = None
        self._before = self._behind = b""  # bytes around the text in a content-only event
        self._text_at = 0, 0  # start of that text, and its end relative to the event's end; 0: unknown

    @property
    def complete(self) -> bool:
        """Whether the stream may end now with nothing missing."""
        return self.finished or self.done

    def see(self, batch: bytes) -> bytes:
        """The part of these events that goes to the client. Raises a failure that one of them reports."""
        self.last_at = perf_counter()
        begins, ends = self._text_at
        if begins and batch.startswith(self._before) and batch.endswith(self._behind):
            if batch.find(b'"', begins, ends) < 0 and batch.find(b"\n", begins, ends) < 0:
                return batch
        kept, at = [], 0
        if self.content_at is None:
            for event in events(batch):
                at += len(event)
                if self._keep(event):
                    kept.append(event)
                if self.content_at is not None:
                    break
        talks = _talks_from(batch, at)
        if talks == len(batch) and not at:
            self._learn(batch)
            return batch
        kept.append(batch[at:talks])
        try:
            for event in events(batch[talks:]):
                if self._keep(event):
                    kept.append(event)
        except SluiceError:
            self.sound = b"".join(kept)
            raise
        return b"".join(kept)

    def _learn(self, event: bytes) -> None:
        """Remembers the bytes around the text of a content-only event: further events like it need no parsing."""
        start = event.find(_TEXT) + len(_TEXT)
        end = event.find(b'"', start)
        if start >= len(_TEXT) and end > 0 and event.endswith(b"}\n\n") and event.count(b"\n\n") == 1:
            self._before, self._behind = event[:start], event[end:]
            self._text_at = start, end - len(event)

    def _keep(self, event: bytes) -> bool:
        if self.done:
            return False  # nothing after [DONE] is passed on
        data = payload(event)
        if data is None:
            return True
        if data.startswith(b"[DONE]"):
            self.done = True
            return True
        try:
            fields = lenient(data)
        except ValueError:
            self.malformed += 1
            return False
        if isinstance(fields, list) and fields and isinstance(fields[0], dict):
            fields = fields[0]  # Gemini wraps an error in an array
        if not isinstance(fields, dict):
            return True
        if failure := self._failure_in(fields):
            raise failure
        choices = fields.get("choices")
        if isinstance(choices, list):
            self._look_at(choices)
        usage = fields.get("usage")
        if isinstance(usage, dict):
            self.usage = usage_of(usage)
            return not (self._own_usage and choices == [])
        return True

    def _look_at(self, choices: list[Any]) -> None:
        for choice in choices:
            if not isinstance(choice, dict):
                continue
            if choice.get("finish_reason"):
                self._ended.add(repr(choice.get("index", 0)))
                self.finished = len(self._ended) >= self._asked
            if self.content_at is None and (_content_in(choice.get("delta")) or choice.get("text")):
                self.content_at = self.last_at


class ResponsesWatch:
    """Watches a stream of the Responses API: typed events, no `[DONE]`, one terminal event."""

    __slots__ = (
        "_batch",
        "_failure_in",
        "complete",
        "content_at",
        "done",
        "failure",
        "last_at",
        "lingers",
        "malformed",
        "terminal",
        "usage",
    )
    sound = b""  # it raises nothing
    _TERMINAL = (b"response.completed", b"response.incomplete", b"response.failed", b'"error"')

    def __init__(self, failure_in: FailureIn) -> None:
        self._failure_in = failure_in
        self._batch = b""  # the last one with numbered events
        self.content_at: float | None = None
        self.last_at: float | None = None
        self.complete = False
        self.lingers = False
        self.done = True  # no [DONE] has to be added
        self.terminal = b""  # the JSON of the terminal event
        self.failure: SluiceError | None = None  # reported by an event, which the client gets itself
        self.malformed = 0
        self.usage: Usage | None = None

    @property
    def next_number(self) -> int:
        """The sequence number of an event that would follow now."""
        numbers = _NUMBER.findall(self._batch)
        return int(numbers[-1]) + 1 if numbers else 0

    def see(self, batch: bytes) -> bytes:
        """The batch up to its terminal event, from which the usage is read."""
        self.last_at = perf_counter()
        if batch.find(b'"sequence_number"') >= 0:
            self._batch = batch
        if self.content_at is None and batch.find(b".delta") >= 0:
            self.content_at = self.last_at
        if any(batch.find(word) >= 0 for word in self._TERMINAL):
            at = 0
            for event in events(batch):
                at += len(event)
                self._note(payload(event))
                if self.complete:
                    return batch[:at]  # nothing after the terminal event is passed on
        return batch

    def _note(self, data: bytes | None) -> None:
        try:
            fields = lenient(data or b"null")
        except ValueError:
            self.malformed += 1
            return
        if not isinstance(fields, dict):
            return
        kind = fields.get("type", "error" if fields.get("error") else None)  # some fail as in the chat API
        if kind in ("response.completed", "response.incomplete", "response.failed", "error"):
            self.complete = self.lingers = True
            self.terminal = data or b""
            response = fields.get("response")
            if kind in ("response.failed", "error"):
                report = response if isinstance(response, dict) else fields
                self.failure = self._failure_in({"error": report.get("error") or fields})
            usage = response.get("usage") if isinstance(response, dict) else None
            if isinstance(usage, dict):
                self.usage = usage_of(usage)


class RawWatch:
    """Watches a body that is no event stream: nothing in it is parsed."""

    __slots__ = ("content_at", "last_at")
    complete = done = True
    lingers = False
    malformed = 0
    sound = b""
    usage = failure = None

    def __init__(self) -> None:
        self.content_at: float | None = None
        self.last_at: float | None = None

    def see(self, batch: bytes) -> bytes:
        """The batch itself."""
        self.last_at = perf_counter()
        self.content_at = self.content_at or self.last_at
        return batch


Watch = ChatWatch | ResponsesWatch | RawWatch


class Noted(Protocol):
    """What a watch has read from a stream."""

    @property
    def content_at(self) -> float | None: ...
    @property
    def done(self) -> bool:
        """Whether its last event has come."""
        ...

    @property
    def last_at(self) -> float | None: ...
    @property
    def malformed(self) -> int:
        """Events that were not JSON and were dropped."""
        ...

    @property
    def usage(self) -> Usage | None: ...
    @property
    def failure(self) -> SluiceError | None:
        """A failure that the stream reported without an exception being raised for it."""
        ...


def note_stream(call: Call, watch: Noted) -> None:
    """Copies what a watch has read to the trace of the call; for several streams, combined."""
    trace = call.trace
    if trace.content_at is None:
        trace.content_at = watch.content_at
    trace.last_at = watch.last_at
    trace.malformed += watch.malformed
    if watch.usage is not None:
        trace.usage = watch.usage.and_also(trace.usage)
    if watch.failure is not None:
        trace.failure = watch.failure


def _talks_from(batch: bytes, start: int) -> int:
    """Offset of the first event in the batch that may hold more than content; the length of the batch if none does."""
    first = len(batch)
    for word in (b"[DONE]", b'"error"'):
        if (at := batch.find(word, start, first)) >= 0:
            first = at
    if batch.count(b'"usage"', start, first) != batch.count(b'"usage":null', start, first):  # null: as OpenAI sends
        first = batch.find(b'"usage"', start)
        while batch.startswith(b'"usage":null', first):
            first = batch.find(b'"usage"', first + 1)
    if finish := _FINISH.search(batch, start, first):
        first = finish.start()
    if first < len(batch):
        before = batch.rfind(b"\n\n", start, first)
        first = start if before < 0 else before + 2
    odd = batch.count(b"}\n\n", start, first) != batch.count(b"\n\n", start, first)
    return start if odd else first  # an event that does not end in } is probably not JSON


def lenient(data: bytes) -> Any:
    """Parses JSON, including what orjson refuses and some servers send: lone surrogates, NaN. Raises ValueError."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        try:
            return json.loads(data)
        except RecursionError:
            raise ValueError("nested too deeply") from None


def _content_in(delta: Any) -> bool:
    """Whether a delta holds anything but a role and empty values."""
    return isinstance(delta, dict) and any(value for name, value in delta.items() if name != "role")
