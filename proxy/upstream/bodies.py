"""Reads an upstream's body: its kind, all of it in one piece, and the usage it reports."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final, Protocol

import httpx

from proxy.call import CHAT_LIKE, Call, Headers
from proxy.errors import SluiceError
from proxy.headers import value
from proxy.providers.contract import Provider
from proxy.providers.reports import BROKEN_OFF
from proxy.upstream.border import translate_error
from proxy.usage import usage_of
from proxy.watch import lenient

MAX_WHOLE: Final = 64 * 1024 * 1024  # largest whole answer in bytes
_MOST_BLANKS: Final = 64 * 1024  # leading blanks in bytes after which a body counts as one answer
_EVENT_TYPES: Final = (b"text/event-stream", b"application/x-ndjson", b"text/plain")


class Pieces(Protocol):
    """An upstream's body: bytes as they arrive, and a way to close it."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...
    async def aclose(self) -> None: ...


class RawReader:
    """Passes a body on unchanged."""

    def feed(self, data: bytes) -> bytes:
        """The data."""
        return data

    def finish(self) -> bytes:
        """Nothing was held."""
        return b""


@dataclass(slots=True)
class Peeked:
    """A body whose beginning has been read."""

    begins: bytes
    rest: AsyncIterator[bytes]
    source: Pieces

    @property
    def holds_one_answer(self) -> bool:
        """Whether it is JSON, HTML or empty: no line of an event stream begins like that."""
        return self.begins.lstrip()[:1] in (b"{", b"[", b"<", b"")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.begins
        async for piece in self.rest:
            yield piece

    async def aclose(self) -> None:
        """Closes the body."""
        await self.source.aclose()


async def peeked(source: Pieces, upstream: str) -> Peeked:
    """The body with its beginning, past leading white space (up to a limit). Raises if it breaks off."""
    found = Peeked(b"", source.__aiter__(), source)
    try:
        async for piece in found.rest:
            found.begins += piece
            if piece.strip() or len(found.begins) > _MOST_BLANKS:
                break
    except httpx.HTTPError as error:
        raise translate_error(error, upstream) from None
    return found


async def read_whole(source: Pieces, upstream: str, most: int = MAX_WHOLE) -> bytes:
    """A body in one piece. Raises upstream_malformed past `most` bytes, and if it breaks off."""
    pieces, size = [], 0
    try:
        async for piece in source:
            pieces.append(piece)
            size += len(piece)
            if size > most:
                raise too_large()
    except httpx.HTTPError as error:
        raise translate_error(error, upstream) from None
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def too_large() -> SluiceError:
    """The error of an answer past the limit."""
    return SluiceError("upstream_malformed", "The upstream's answer is too large.", again="next")


def carries_events(headers: Headers) -> bool:
    """Whether a body of this content type is an event stream (some servers label theirs text/plain)."""
    return (value(headers, b"content-type") or b"").lower().startswith(_EVENT_TYPES)


def is_vague(headers: Headers) -> bool:
    """Whether the content type leaves the kind of body open: many servers send everything as text/plain."""
    return (value(headers, b"content-type") or b"text/plain").lower().startswith(b"text/plain")


def says_event_stream(headers: Headers) -> bool:
    """Whether the content type is text/event-stream."""
    return (value(headers, b"content-type") or b"").lower().startswith(b"text/event-stream")


def to_be_read(headers: Headers) -> bool:
    """Whether a body of this content type must be inspected: JSON, or HTML, which is never an answer."""
    kind = value(headers, b"content-type") or b""
    if kind == b"application/json":
        return True
    kind = kind.lower()
    return kind.startswith(b"text/html") or (b"json" in kind and not kind.startswith(_EVENT_TYPES))


def note_whole(call: Call, provider: Provider, body: bytes) -> None:
    """Records the usage of a whole answer in the trace of the call.

    Raises if the answer reports an error, is cut off, or has no choices.
    """
    if call.endpoint not in CHAT_LIKE and b'"usage"' not in body and body.count(b"{") == body.count(b"}"):
        return
    try:
        answer = lenient(body)
    except ValueError:
        if body.startswith(b"{") and not _is_readable(body):
            raise SluiceError("upstream_malformed", "The upstream's answer is not JSON.", again="next") from None
        return  # some client may be able to parse it: passed on unchanged
    if not isinstance(answer, dict):
        answer = {}
    if choices := answer.get("choices"):
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict) and choice.get("finish_reason") in BROKEN_OFF:
                raise provider.failure_in(answer) or without_choices()
    elif call.endpoint in CHAT_LIKE:
        raise without_choices()
    if isinstance(usage := answer.get("usage"), dict):
        call.trace.usage = usage_of(usage)


def _is_readable(body: bytes) -> bool:
    """Whether some client could parse this as JSON, if it tolerates invalid bytes or deep nesting."""
    try:
        json.loads(body.decode(errors="replace"), strict=False)
    except RecursionError:
        return True
    except ValueError:
        return False
    return True


def without_choices() -> SluiceError:
    """The error of a completion without content."""
    return SluiceError("upstream_malformed", "The upstream's answer has no choices.", again="next")
