"""Adds to a stream of the Responses API the indexes that clients need and some servers leave out."""

import time
from typing import Any

import orjson

from proxy.shapes import object_of
from proxy.sse import EventCutter, events, payload


class PlacingReader:
    """Whole events with `sequence_number`, `output_index` and `content_index`; existing values stay.

    The first events also get the response that begins, and function calls get an `id`. The SDKs of OpenAI and Vercel
    fail on streams without these.
    """

    def __init__(self, model: str) -> None:
        self._begun = {"created_at": int(time.time()), "model": model}
        self._cutter = EventCutter()
        self._sent = 0
        self._items: list[object] = []  # ids of the output items, in order

    def feed(self, data: bytes) -> bytes:
        """Whole events."""
        return b"".join(map(self._event, events(self._cutter.feed(data))))

    def finish(self) -> bytes:
        """The rest."""
        return b"".join(map(self._event, events(self._cutter.finish())))

    def _event(self, event: bytes) -> bytes:
        try:
            fields = orjson.loads(payload(event) or b"")
        except orjson.JSONDecodeError:
            return event
        kind = fields.get("type") if isinstance(fields, dict) else None
        if not isinstance(kind, str) or not kind.isprintable():  # it is written as a line
            return event
        try:
            before = orjson.dumps(fields)
            self._place(kind, fields)
            after = orjson.dumps(fields)
        except orjson.JSONEncodeError:  # nested too deeply
            return event
        return event if after == before else b"event: %b\ndata: %b\n\n" % (kind.encode(), after)

    def _place(self, kind: str, fields: dict[str, Any]) -> None:
        fields.setdefault("sequence_number", self._sent)
        self._sent += 1
        if kind in ("response.created", "response.in_progress"):
            response = object_of(fields.get("response"))
            for name, value in {**self._begun, "output": []}.items():
                response.setdefault(name, value)
        elif kind in ("response.output_item.added", "response.output_item.done"):
            item = _named(fields.get("item"))
            if kind == "response.output_item.added":
                self._items.append(item.get("id"))
            fields.setdefault("output_index", self._index(item.get("id")))
        elif "item_id" in fields:
            fields.setdefault("output_index", self._index(fields["item_id"]))
            if "function_call" not in kind:
                fields.setdefault("content_index", 0)  # the server makes one part per item
        elif isinstance(output := object_of(fields.get("response")).get("output"), list):
            for item in output:
                _named(item)

    def _index(self, item: object) -> int:
        return self._items.index(item) if item in self._items else max(len(self._items) - 1, 0)


def _named(item: object) -> dict[str, Any]:
    """An output item with an `id`, by which its events refer to it."""
    found = object_of(item)
    if found.get("type") == "function_call":
        found.setdefault("id", found.get("call_id"))
    return found
