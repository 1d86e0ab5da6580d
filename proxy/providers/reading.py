"""Base classes of translating readers: pieces of an upstream's stream in, OpenAI's events out."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

import orjson

from proxy.errors import SluiceError
from proxy.sse import MAX_EVENT

NO_JSON: Final = b"data: ?\n\n"
"""Stands for an unreadable piece: the watch of the stream drops and counts it."""


def malformed(who: str) -> SluiceError:
    """The error of a successful answer that cannot be parsed."""
    return SluiceError("upstream_malformed", f"{who} sent an answer that is not in its own format.", again="next")


def json_text(value: object, who: str) -> str:
    """A tool's arguments as JSON text. Raises upstream_malformed if they are nested too deeply."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        raise malformed(who) from None


def cut_short(who: str) -> SluiceError:
    """The error of a whole answer that is marked as incomplete."""
    return SluiceError("upstream_truncated", f"{who} ended the answer before it was complete.", again="next")


def answer_object(who: str, body: bytes) -> dict[str, Any]:
    """A whole answer as an object."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise malformed(who) from None
    if not isinstance(answer, dict):
        raise malformed(who)
    return answer


def count(value: Any) -> int | None:
    """A number of tokens or seconds above 0, or None."""
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else None


def unix_seconds(date: Any) -> int | None:
    """Unix seconds of an RFC 3339 date.

    Go writes up to nine fractional digits; those beyond microseconds are ignored.
    """
    try:
        return int(datetime.fromisoformat(date).timestamp())
    except (TypeError, ValueError, OverflowError):
        return None


class LineCutter:
    """Cuts a byte stream (NDJSON) into lines. Empty lines are dropped."""

    def __init__(self, limit: int = MAX_EVENT) -> None:
        self._tail = bytearray()
        self._limit = limit

    def feed(self, data: bytes) -> Sequence[bytes]:
        """The lines completed by `data`. Raises upstream_malformed for one longer than the limit."""
        *whole, rest = data.split(b"\n")
        if whole and self._tail:
            whole[0] = bytes(self._tail) + whole[0]
            self._tail.clear()
        self._tail += rest
        if len(self._tail) > self._limit:
            raise SluiceError("upstream_malformed", "The upstream sent a line that is too long.", again="next")
        return [line for line in whole if line and not line.isspace()]

    def finish(self) -> Sequence[bytes]:
        """The last line, if its newline never came."""
        rest = bytes(self._tail)
        self._tail.clear()
        return [rest] if rest and not rest.isspace() else []


class TranslatingReader:
    """A Reader by three methods of a subclass: cut, rest, and translate for one piece.

    A failure in the stream is raised only after the events before it have been returned, in the next `feed` or
    `finish`, so the result does not depend on how the network cuts the bytes. A piece that is not JSON becomes NO_JSON;
    as the very first piece it means that this is not a stream of this dialect.
    """

    def __init__(self) -> None:
        self._failed: SluiceError | None = None
        self._began = False

    def feed(self, data: bytes) -> bytes:
        """The events completed by `data`."""
        if self._failed is not None:
            raise self._failed
        return self._run(self.cut(data))

    def finish(self) -> bytes:
        """The events in what was held when the body ended."""
        if self._failed is not None:
            raise self._failed
        self._began = True  # an unreadable piece is now a truncated one, not another format
        return self._run(self.rest()) + self.end()

    def cut(self, data: bytes) -> Iterable[bytes]:
        """The pieces completed by `data`."""
        raise NotImplementedError

    def rest(self) -> Iterable[bytes]:
        """The piece that was held, if any."""
        raise NotImplementedError

    def translate(self, piece: bytes) -> bytes:
        """OpenAI's events for one piece. Raises ValueError if it is not JSON, SluiceError if it reports a failure."""
        raise NotImplementedError

    def end(self) -> bytes:
        """Events that are still missing if the body ended without the dialect's closing piece."""
        return b""

    def _run(self, pieces: Iterable[bytes]) -> bytes:
        found: list[bytes] = []
        try:
            for piece in pieces:
                found.append(self._take(piece))
        except SluiceError as error:
            self._failed = error
            if not any(found):
                raise
        return b"".join(found)

    def _take(self, piece: bytes) -> bytes:
        try:
            events = self.translate(piece)
        except ValueError:
            if not self._began:
                raise malformed("The upstream") from None
            return NO_JSON
        self._began = True
        return events
