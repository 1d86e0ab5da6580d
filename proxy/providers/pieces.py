"""Joins Mistral's content pieces (thinking, text) into OpenAI's single text, with the reasoning beside it."""

import re
from typing import Any, Final

import orjson

from proxy.shapes import list_of, object_of, string_of
from proxy.sse import events, payload

_IN_PIECES: Final = re.compile(rb'"content"\s*:\s*\[')
_KNOWN: Final = ("text", "thinking")


def joined(answer: bytes) -> bytes:
    """A whole answer with the pieces of each message joined; unchanged if there are none."""
    return (_edited(answer) or answer) if _IN_PIECES.search(answer) else answer


def joined_events(batch: bytes) -> bytes:
    """The same for whole events of a stream."""
    return b"".join(map(_event, events(batch))) if _IN_PIECES.search(batch) else batch


def _event(event: bytes) -> bytes:
    edited = _edited(payload(event) or b"")
    return event if edited is None else b"data: " + edited + b"\n\n"


def _edited(data: bytes) -> bytes | None:
    try:
        answer = orjson.loads(data)
        choices = object_of(answer).get("choices")
        said = [choice.get(part) for choice in map(object_of, list_of(choices)) for part in ("message", "delta")]
        return orjson.dumps(answer) if any([_join(object_of(part)) for part in said]) else None
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return None


def _join(said: dict[str, Any]) -> bool:
    """Joins the pieces; False: there were none. Pieces of other kinds, such as references, stay as they are."""
    pieces = said.get("content")
    if not isinstance(pieces, list) or any(object_of(piece).get("type") not in _KNOWN for piece in pieces):
        return False
    said["content"] = _texts(pieces)
    if thoughts := "".join(_texts(piece.get("thinking")) for piece in pieces):
        said["reasoning_content"] = thoughts
    return True


def _texts(pieces: Any) -> str:
    if isinstance(pieces, str):
        return pieces
    return "".join(string_of(object_of(piece).get("text")) for piece in list_of(pieces))
