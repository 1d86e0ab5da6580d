"""Completes streamed tool calls for OpenAI's clients: adds a missing `index`, and the finish reason "tool_calls"."""

from typing import Any

import orjson

from proxy.shapes import list_of, object_of
from proxy.sse import EventCutter, events, payload


class NumberingReader:
    """Whole events, unchanged except for tool-call pieces without an index, and a finish reason "stop" after such.

    A piece with a function name begins a new call, unless its id has occurred; any other continues the last call.
    """

    def __init__(self) -> None:
        self._cutter = EventCutter()
        self._begun: dict[Any, list[object]] = {}  # by choice: ids of its calls; None: a call without an id
        self._calling: set[str] = set()  # choices that call tools

    def feed(self, data: bytes) -> bytes:
        """Whole events."""
        return self._numbered(self._cutter.feed(data))

    def finish(self) -> bytes:
        """The rest."""
        return self._numbered(self._cutter.finish())

    def _numbered(self, batch: bytes) -> bytes:
        if not self._calling and batch.find(b'"tool_calls"') < 0:
            return batch
        return b"".join(map(self._event, events(batch)))

    def _event(self, event: bytes) -> bytes:
        try:
            chunk = orjson.loads(payload(event) or b"")
            if not self._choices(object_of(chunk).get("choices")):
                return event
            return b"data: " + orjson.dumps(chunk) + b"\n\n"
        except (orjson.JSONDecodeError, orjson.JSONEncodeError):
            return event

    def _choices(self, choices: Any) -> bool:
        """Whether anything was changed."""
        found = False
        for choice in map(object_of, list_of(choices)):
            at = repr(choice.get("index", 0))
            pieces = object_of(choice.get("delta")).get("tool_calls")
            begun = self._begun.setdefault(at, [])
            for piece in list_of(pieces):
                if isinstance(piece, dict):
                    self._calling.add(at)
                    if not isinstance(piece.get("index"), int):
                        piece["index"] = _place(piece, begun)
                        found = True
            if at in self._calling and choice.get("finish_reason") == "stop":
                choice["finish_reason"] = "tool_calls"
                found = True
        return found


def _place(piece: dict[str, Any], begun: list[object]) -> int:
    id = piece.get("id") or None
    if id is not None and id in begun:
        return begun.index(id)
    if object_of(piece.get("function")).get("name") or not begun:
        begun.append(id)
    return len(begun) - 1
