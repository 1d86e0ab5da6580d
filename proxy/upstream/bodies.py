"""An upstream's body: what its head says that it is, and all of it in one piece."""

from collections.abc import AsyncIterator
from typing import Final, Protocol

from proxy.call import Headers
from proxy.errors import SluiceError
from proxy.headers import value

MAX_WHOLE: Final = 64 * 1024 * 1024  # bytes that a whole answer may have
_EVENT_TYPES: Final = (b"text/event-stream", b"application/x-ndjson", b"text/plain")


class Pieces(Protocol):
    """An upstream's body: bytes as they arrive, and the way to be rid of it."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...
    async def aclose(self) -> None: ...


async def read_whole(source: Pieces) -> bytes:
    """A body in one piece. Raises upstream_malformed past the limit, and httpx's errors."""
    pieces, size = [], 0
    async for piece in source:
        pieces.append(piece)
        size += len(piece)
        if size > MAX_WHOLE:
            raise SluiceError("upstream_malformed", "The upstream's answer is unreasonably large.", again="next")
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def carries_events(headers: Headers) -> bool:
    """Whether a body of this content type is a stream of events (some servers call theirs plain text)."""
    return (value(headers, b"content-type") or b"").lower().startswith(_EVENT_TYPES)


def says_event_stream(headers: Headers) -> bool:
    """Whether the content type is the one of server-sent events."""
    return (value(headers, b"content-type") or b"").lower().startswith(b"text/event-stream")


def to_be_read(headers: Headers) -> bool:
    """Whether a body of this content type is to be looked into: JSON, or a page, which is nobody's answer."""
    kind = value(headers, b"content-type") or b""
    if kind == b"application/json":
        return True
    kind = kind.lower()
    return kind.startswith(b"text/html") or (b"json" in kind and not kind.startswith(_EVENT_TYPES))
