"""Answers that are complete but oddly written: malformed, huge, cut anywhere, compressed, or in another shape.

Events are counted from 0, the role event of a stream included.
"""

import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from tests.doubles.faults import events
from tests.doubles.server import Double, Fault
from tests.doubles.wire import Act, Answer, Received, Wait


@dataclass(frozen=True, slots=True)
class MalformedEvent:
    """One event has only the first half of its JSON; the rest is fine."""

    at: int = 3

    def __call__(self, double: Double, request: Received) -> Answer:
        answer = double.answer(request)
        sent = events(answer)
        bad = sent[self.at].rstrip(b"\n")
        end = sent[self.at][len(bad) :]
        return answer.with_acts(*sent[: self.at], bad[: max(len(bad) // 2, 12)] + end, *sent[self.at + 1 :])


@dataclass(frozen=True, slots=True)
class WholeForStream:
    """A whole JSON answer although a stream was asked for."""

    def __call__(self, double: Double, request: Received) -> Answer:
        return double.answer(as_stream(request, False))


@dataclass(frozen=True, slots=True)
class StreamForWhole:
    """A stream although a whole answer was asked for."""

    def __call__(self, double: Double, request: Received) -> Answer:
        return double.answer(as_stream(request, True))


def as_stream(request: Received, stream: bool) -> Received:
    """The same request with its `stream` set."""
    asked = {key: value for key, value in request.json.items() if stream or key != "stream_options"}
    return replace(request, body=json.dumps({**asked, "stream": stream}).encode())


@dataclass(frozen=True, slots=True)
class SlowEvents:
    """So many milliseconds before each event."""

    ms: float

    def __call__(self, double: Double, request: Received) -> Answer:
        answer = double.answer(request)
        return answer.with_acts(*(act for event in events(answer) for act in (Wait(self.ms / 1000), event)))


@dataclass(frozen=True, slots=True)
class HugeEvent:
    """One event, still valid, with so many bytes of padding in its one line."""

    bytes: int
    at: int = 1

    def __call__(self, double: Double, request: Received) -> Answer:
        def pad(at: int, event: bytes) -> bytes:
            start, brace, rest = event.partition(b"{")
            return b'%b{"obfuscation":"%b",%b' % (start, b"x" * self.bytes, rest) if at == self.at and brace else event

        answer = double.answer(request)
        return answer.with_acts(*(pad(at, event) for at, event in enumerate(events(answer))))


@dataclass(frozen=True, slots=True)
class EventsCutAt:
    """The body in writes of these sizes in turn, whatever they cut through."""

    sizes: tuple[int, ...] = (1,)
    pause: float = 0  # seconds between writes

    def __call__(self, double: Double, request: Received) -> Answer:
        answer = double.answer(request)
        return answer.with_acts(*(act for piece in self._pieces(answer.body) for act in (piece, Wait(self.pause))))

    def _pieces(self, body: bytes) -> Iterator[bytes]:
        start = at = 0
        while start < len(body):
            size = self.sizes[at % len(self.sizes)]
            yield body[start : start + size]
            start, at = start + size, at + 1


@dataclass(frozen=True, slots=True)
class Rewritten:
    """Each event replaced by what `change(number, event)` makes of it."""

    change: Callable[[int, bytes], bytes]

    def __call__(self, double: Double, request: Received) -> Answer:
        answer = double.answer(request)
        return answer.with_acts(*(self.change(at, event) for at, event in enumerate(events(answer))))


def CRLF() -> Rewritten:  # noqa: N802 - stands among the faults
    """Lines end in CR LF."""
    return Rewritten(lambda at, event: event.replace(b"\n", b"\r\n"))


def Comments(text: str = "keep-alive") -> Rewritten:  # noqa: N802
    """A comment before every event."""
    return Rewritten(lambda at, event: f": {text}\n\n".encode() + event)


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """So many signs of life, so many seconds apart, before anything else: comments, or blank lines before JSON."""

    times: int
    every: float = 0.05
    sign: bytes = b": keep-alive\n\n"

    def __call__(self, double: Double, request: Received) -> Answer:
        answer = double.answer(request)
        sign = self.sign if request.json.get("stream") else b"\n"
        signs = [act for _ in range(self.times) for act in (sign, Wait(self.every))]
        return answer.with_acts(*signs, *answer.acts)


def Fields() -> Rewritten:  # noqa: N802
    """The fields nobody uses in every event."""
    return Rewritten(lambda at, event: f"id: {at}\nretry: 3000\n".encode() + event)


def BOM() -> Rewritten:  # noqa: N802
    """A byte order mark before everything."""
    return Rewritten(lambda at, event: b"\xef\xbb\xbf" + event if at == 0 else event)


def MultiLineData() -> Rewritten:  # noqa: N802
    """The JSON of each event spread over several `data` lines, without the space after the colon."""

    def spread(at: int, event: bytes) -> bytes:
        head, mark, data = event.partition(b"data: ")
        if not data.startswith(b"{"):
            return event
        lines = json.dumps(json.loads(data), ensure_ascii=False, indent=1).encode().split(b"\n")
        return head + b"".join(b"data:" + line + b"\n" for line in lines) + b"\n"

    return Rewritten(spread)


def NoLastBlank() -> Fault:  # noqa: N802
    """The last event has no empty line after it."""

    def fault(double: Double, request: Received) -> Answer:
        answer = double.answer(request)
        *sent, last = events(answer)
        return answer.with_acts(*sent, last.rstrip(b"\n"))

    return fault


def WrongUsage(prompt: int | None = 1, completion: int | None = 999_999) -> Rewritten:  # noqa: N802
    """Token counts that are not true; None: no usage at all."""
    wrong = {"prompt_tokens": prompt, "input_tokens": prompt, "prompt_eval_count": prompt}
    wrong |= {"completion_tokens": completion, "output_tokens": completion, "eval_count": completion}
    wrong["total_tokens"] = (prompt or 0) + (completion or 0)

    def lie(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        told = {key: wrong.get(key, lie(inner)) for key, inner in value.items()}
        return {key: inner for key, inner in told.items() if inner is not None or value[key] is None}

    def change(at: int, event: bytes) -> bytes:
        start, brace, rest = event.partition(b"{")
        if not brace:
            return event
        told = lie(json.loads(brace + rest))
        if prompt is None and completion is None:
            told.pop("usage", None)
        end = event[len(event.rstrip(b"\n")) :]
        return start + json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode() + end

    return Rewritten(change)


@dataclass(frozen=True, slots=True)
class NoLength:
    """No framing at all: the body ends where the connection does."""

    def __call__(self, double: Double, request: Received) -> Answer:
        return replace(double.answer(request), framing="close")


@dataclass(frozen=True, slots=True)
class GzipBomb:
    """A small compressed body that is so many bytes of zeros."""

    bytes: int = 200_000_000

    def __call__(self, double: Double, request: Received) -> Answer:
        honest = double.answer(request)
        kept = tuple(item for item in honest.headers if item[0] == "content-type")
        return Answer(200, (*kept, ("content-encoding", "gzip")), (gzip.compress(b"0" * self.bytes),))


@dataclass(frozen=True, slots=True)
class Raw:
    """These steps as they are after the honest head."""

    acts: tuple[Act, ...]

    def __call__(self, double: Double, request: Received) -> Answer:
        return double.answer(request).with_acts(*self.acts)
