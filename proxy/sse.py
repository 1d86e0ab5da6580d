"""Server-sent events as bytes, by the WHATWG grammar (html.spec.whatwg.org, 9.2 "Server-sent events").

Bytes are looked for by `find`, here and wherever each call or event passes: `in` takes what it looks for to be a number
first, and the TypeError that it then swallows costs more than the search.
"""

import re
from collections.abc import Iterator
from typing import Final

from proxy.errors import SluiceError

DONE: Final = b"data: [DONE]\n\n"
MAX_EVENT: Final = 32 * 1024 * 1024  # largest event in bytes; more is an error

_BLANK = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")  # an end of line, then an empty line
_LINE = re.compile(rb"\r\n|\n|\r")


class EventCutter:
    """Cuts a byte stream at event boundaries: `feed` returns only whole events, unchanged."""

    def __init__(self, limit: int = MAX_EVENT) -> None:
        self._tail: list[bytes] = []
        self._held = 0
        self._last = b""  # the last bytes held, since a boundary may be split across reads
        self._limit = limit

    def feed(self, data: bytes) -> bytes:
        """The events completed by `data` (b"": none yet). Raises upstream_malformed past the size limit."""
        if not self._tail and data.endswith(b"\n\n") and data.find(b"\r") < 0:
            return data  # the usual case
        seen = self._last + data if self._last else data
        end = _end_of_last_event(seen) - len(self._last)
        if end <= 0:
            self._hold(data)
            return b""
        whole, rest = (data, b"") if end == len(data) else (data[:end], data[end:])
        if self._tail:
            whole = b"".join((*self._tail, whole))
            self._tail.clear()
            self._held = 0
            self._last = b""
        if rest:
            self._hold(rest)
        return whole

    def finish(self) -> bytes:
        """What is still held: an event whose closing empty line never came, or b""."""
        rest = b"".join(self._tail)
        self._tail.clear()
        self._held, self._last = 0, b""
        return rest

    def _hold(self, data: bytes) -> None:
        self._tail.append(data)
        self._held += len(data)
        self._last = (self._last + data)[-3:]
        if self._held > self._limit:
            raise SluiceError("upstream_malformed", "The upstream sent an event that is too large.", again="next")


def _end_of_last_event(data: bytes) -> int:
    """Where the last whole event in `data` ends, or -1."""
    if data.find(b"\r") < 0:
        at = data.rfind(b"\n\n")
        return at + 2 if at >= 0 else -1
    end = -1
    for found in _BLANK.finditer(data):
        end = found.end()
    return end


def events(data: bytes) -> Iterator[bytes]:
    """The single events in `data`, each with its closing empty line (the last may lack it)."""
    start = 0
    if data.find(b"\r") < 0:
        while (at := data.find(b"\n\n", start)) >= 0:
            yield data[start : at + 2]
            start = at + 2
    else:
        for found in _BLANK.finditer(data):
            yield data[start : found.end()]
            start = found.end()
    if start < len(data):
        yield data[start:]


def payload(event: bytes) -> bytes | None:
    """The data of one event (several `data` lines joined by a newline), or None where it has none."""
    if event.startswith(b"data: ") and event.count(b"\n") == 2 and event.endswith(b"\n\n") and event.find(b"\r") < 0:
        return event[6:-2]
    lines = []
    for line in _LINE.split(event.removeprefix(b"\xef\xbb\xbf")):
        name, colon, value = line.partition(b":")
        if name == b"data":
            lines.append(value.removeprefix(b" ") if colon else b"")
    return b"\n".join(lines) if lines else None
