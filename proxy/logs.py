"""Logging: readable lines on a terminal, JSON lines elsewhere, written by a thread so that no call waits for a pipe."""

import json
import logging
import os
import re
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from time import time
from typing import Any, Final, Literal, Protocol

import orjson

from proxy.call import Call, Trace
from proxy.errors import metric_code
from proxy.instruments import Instruments, Number

_WAITING: Final = 10_000  # queued lines; more are dropped and counted
_WORDY: Final = 500  # queued lines above which calls are logged without prompt and answer
_PAUSE: Final = 0.05  # seconds between two writes, so that a busy proxy rarely wakes the thread
_LONGEST: Final = 64 * 1024  # bytes of a prompt or an answer in the log

_UNSEEN: Final = re.compile(r"[\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
"""Characters that JSON may contain unescaped but that some terminals and line readers interpret."""

_NO_WORDS: Final[Mapping[str, str]] = {}

Line = Callable[[], str]
"""Produces a log line when it is written."""


class JsonLines(logging.Formatter):
    """One JSON object per line; values are escaped, so none can break out of its line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without the newline."""
        said: dict[str, object] = {
            "time": _utc(record.created),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        return json_line(said)

    def call(self, said: "Ended") -> str:
        """The line of an ended call."""
        own, alike = json_line(said.own), said.alike.line
        return f"{own[:-1]},{alike[1:]}"


class Readable(logging.Formatter):
    """Lines for people; control characters in values are shown as escapes."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without the newline."""
        text = record.getMessage()
        if record.exc_info:
            text += f"\n{self.formatException(record.exc_info)}"
        # Further lines are indented, so that none looks like a line of its own.
        shown = escape_control_characters(text).replace("\n", "\n    ")
        return f"{_clock(record.created)} {record.levelname.lower():<7} {shown}"

    def call(self, said: "Ended") -> str:
        """The line of an ended call."""
        fields = said.fields
        tokens = f"{fields['tokens_input'] or '?'}+{fields['tokens_output'] or '?'} tokens"
        where = f"{fields['route']} -> {fields['upstream']}/{fields['model']}" if fields["upstream"] else "-"
        text = (
            f"{datetime.now().strftime('%H:%M:%S')} {fields['status']} {fields['code']:<8} {fields['door']:<6} {where}"
            f"  {fields['ms']:.0f} ms  {tokens}  [{','.join(fields['attempts'])}]  {fields['id']}"
        )
        return escape_control_characters(text).replace("\n", "\\n")


class Stream(Protocol):
    """Where lines are written."""

    def write(self, text: str, /) -> object: ...
    def flush(self) -> object: ...


@dataclass(frozen=True, slots=True)
class Unbuffered:
    """A file without Python's buffer, which an ending process would still have to flush.

    Flushing would block for ever on a stuck reader, and make the exit code 120 on a closed pipe.
    """

    file: int
    encoding: str

    def write(self, text: str) -> None:
        """Writes all of it."""
        left = text.encode(self.encoding, "backslashreplace")
        while left:
            left = left[os.write(self.file, left) :]

    def flush(self) -> None:
        """Nothing is buffered."""


class Writer(logging.Handler):
    """A logging handler that queues records and calls, and writes them in its own thread."""

    def __init__(self, stream: Stream, form: JsonLines | Readable, dropped: Number | None = None) -> None:
        """`dropped`: counts the lines that are not written."""
        super().__init__()
        self.form = form
        self.dropped = dropped or Number()
        self._stream = stream
        self._lines: deque[Line] = deque()
        self._wake = threading.Event()
        self._ends = False
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queues a record; it is formatted now, since its arguments may change."""
        line = self.form.format(record)
        self._put(lambda: line)

    def note(self, call: Call, seconds: float) -> None:
        """Queues an ended call. Prompt and answer are copied now, since the history drops them next."""
        kept, ended = call.trace.kept, time()
        words = words_of(kept) if kept is not None and len(self._lines) < _WORDY else {}
        self._put(lambda: self.form.call(ended_call(call, seconds, ended, words)))

    def close(self) -> None:
        """Writes what is queued, for one second at most."""
        self._ends = True
        self._wake.set()
        self._thread.join(1.0)
        super().close()

    def _put(self, line: Line) -> None:
        if len(self._lines) >= _WAITING:
            self.dropped.inc()
            return
        self._lines.append(line)
        if not self._wake.is_set():
            self._wake.set()

    def _write(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            pieces = []
            for _ in range(len(self._lines)):
                line = self._lines.popleft()
                try:
                    pieces.append(line())
                except (TypeError, ValueError, LookupError, AttributeError):  # one bad line must not end the thread
                    self.dropped.inc()
            if pieces:
                try:
                    self._stream.write("\n".join(pieces) + "\n")
                    self._stream.flush()
                except (OSError, ValueError):
                    self.dropped.inc(len(pieces))
            if self._ends and not self._lines:
                return
            if not self._ends:
                threading.Event().wait(_PAUSE)


def dropped_lines(made: Instruments) -> Number:
    """The metric of log lines that were not written: stream stuck or closed, queue full, or formatting failed."""
    return made.counter("sluice_log_lines_dropped_total", "Lines of the log that were not written.").labels()


def configure(form: Literal["auto", "text", "json"], level: str, dropped: Number | None = None) -> Writer:
    """Sends the log of Sluice to standard error in the given format; `dropped` counts lines that are not written."""
    readable = form == "text" or (form == "auto" and sys.stderr.isatty())
    encoding = sys.stderr.encoding if readable else "utf-8"  # JSON is UTF-8, whatever the locale says
    writer = Writer(Unbuffered(sys.stderr.fileno(), encoding), Readable() if readable else JsonLines(), dropped)
    root = logging.getLogger()
    root.handlers[:] = [writer]
    root.setLevel(logging.WARNING)
    logging.getLogger("sluice").setLevel(level.upper())
    return writer


@dataclass(frozen=True, slots=True)
class Alike:
    """The part of a log line that many calls share, and its JSON."""

    fields: dict[str, Any]
    line: str


@dataclass(slots=True)
class Ended:
    """The log line of an ended call as fields: those shared with other calls, and its own."""

    own: dict[str, Any]
    alike: Alike

    @property
    def fields(self) -> dict[str, Any]:
        """All fields."""
        return self.own | self.alike.fields


def ended_call(call: Call, seconds: float, ended: float | None = None, words: Mapping[str, str] = _NO_WORDS) -> Ended:
    """The log fields of a call that ended at `ended`; `words`: its prompt and answer, where they are logged."""
    trace, usage = call.trace, call.trace.usage
    first, overhead = trace.content_at, trace.overhead
    own = {
        "time": _utc(ended),
        "id": call.id,
        "tokens_input": usage.input,
        "tokens_output": usage.output,
        "cost": usage.cost,
        "ms": round(seconds * 1000, 2),
        "first_token_ms": round((first - call.began) * 1000, 2) if first else None,
        "overhead_ms": round(overhead * 1000, 3) if overhead is not None else None,
        **words,
    }
    failure = metric_code(trace.failure) if trace.failure else ""
    way = (call.door, call.endpoint, trace.route, trace.upstream, trace.model or call.model, trace.attempts)
    whose = (call.tenant, call.allowance.key if call.allowance is not None else None)
    return Ended(own, _alike(way, trace.status, failure, call.stream, trace.cache, whose))


@lru_cache(maxsize=1024)
def _alike(
    way: tuple[Any, ...], status: int, failure: str, stream: bool, cache: str, whose: tuple[str | None, str | None]
) -> Alike:
    door, endpoint, route, upstream, model, attempts = way
    tenant, key = whose
    fields = {
        "level": "warning" if failure else "info",
        "message": "call",
        "door": door,
        "endpoint": endpoint,
        "route": route or None,
        "upstream": upstream or None,
        "model": model or None,
        "attempts": attempts,
        "status": status,
        "code": failure or "ok",
        "stream": stream,
        "cache": cache,
        "tenant": tenant,
    }
    if key is not None:
        fields["key"] = key
    return Alike(fields, json_line(fields))


def keep_content(trace: Trace, piece: bytes) -> None:
    """Keeps the prompt, then pieces of the answer, up to the size that is logged."""
    if trace.kept is None:
        trace.kept = [piece[:_LONGEST]]
    elif (room := _LONGEST - sum(map(len, trace.kept[1:]))) > 0:
        trace.kept.append(piece[:room])


def words_of(kept: Sequence[bytes] | None) -> dict[str, str]:
    """The prompt and the answer as `keep_content` kept them; empty where it kept nothing."""
    if not kept:
        return {}
    prompt, *pieces = kept
    return {"prompt": prompt.decode("utf-8", "replace"), "answer": b"".join(pieces).decode("utf-8", "replace")}


def json_line(said: dict[str, Any]) -> str:
    """JSON on one line for every reader: Unicode line separators are escaped too."""
    try:
        line = orjson.dumps(said, default=str).decode()
    except orjson.JSONEncodeError:  # NaN, huge integers, lone surrogates
        return json.dumps(said, default=str)
    return line if line.isascii() and "\x7f" not in line else _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", line)


def escape_control_characters(text: str) -> str:
    """The text with control characters as escapes."""
    return "".join(each if each.isprintable() or each == "\n" else repr(each)[1:-1] for each in text)


def _utc(at: float | None) -> str:
    at = time() if at is None else at
    return f"{_second(int(at))}.{int(at % 1 * 1000):03}+00:00"


@lru_cache(maxsize=4)
def _second(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _clock(created: float) -> str:
    return datetime.fromtimestamp(created).strftime("%H:%M:%S")
