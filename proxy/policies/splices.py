"""Joins the stream of a second upstream to what a first one sent before it broke, into one stream for the client."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import StringIO
from typing import Any, Final

import orjson

from proxy.jsonspans import Path, find
from proxy.shapes import list_of
from proxy.sse import DONE, events, payload
from proxy.watch import lenient

_TEXTS: Final = ("content", "reasoning_content", "reasoning", "refusal")
_MESSAGES: Final = Path.of("messages")


@dataclass(slots=True)
class Transcript:
    """What the client has seen of a stream so far: enough to continue it."""

    head: dict[str, Any] = field(default_factory=dict)  # id and created of the first event
    role_seen: bool = False
    joinable: bool = True  # neither tool calls nor several choices, which are never spliced, nor what cannot be read,
    # nor a finish, which has nothing behind it
    _texts: dict[str, StringIO] = field(default_factory=lambda: defaultdict(StringIO))  # which grow without copies

    def texts(self) -> dict[str, str]:
        """What was said, by the delta's field."""
        return {name: text.getvalue() for name, text in self._texts.items()}

    def add(self, batch: bytes) -> None:
        """Adds events that go to the client."""
        for event in events(batch):
            fields = _object(event)
            if fields is None:
                self.joinable = self.joinable and not _unread(event)
                continue
            if not self.head and fields.get("id"):  # Azure's first chunk (content filter) has none
                self.head = {key: fields[key] for key in ("id", "created") if key in fields}
            for choice in _choices(fields):
                self._add(choice)

    def _add(self, choice: Mapping[str, Any]) -> None:
        if choice.get("finish_reason"):
            self.joinable = False
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            return
        if delta.get("tool_calls") or delta.get("function_call") or choice.get("index"):
            self.joinable = False
        self.role_seen = self.role_seen or "role" in delta
        for name in _TEXTS:
            if isinstance(delta.get(name), str):
                self._texts[name].write(delta[name])


class Disagreement(Exception):
    """The new answer differs from what the client has seen."""


@dataclass(slots=True)
class Splice:
    """Adapts a second stream. `continues`: it continues where the first ended; `echoes`: repeating the content first.

    Otherwise it is a fresh answer. What it repeats is removed, as long as the two agree.
    """

    transcript: Transcript
    continues: bool
    echoes: bool = False
    _repeated: tuple[str, ...] = field(init=False)  # the texts that it says from their beginning
    _seen: dict[str, str] = field(init=False)  # when the first stream broke
    _caught_up: dict[str, int] = field(default_factory=dict)  # characters of these that it has repeated

    def __post_init__(self) -> None:
        self._seen = self.transcript.texts()
        self._repeated = (("content",) if self.echoes else ()) if self.continues else _TEXTS

    def events(self, batch: bytes) -> bytes:
        """The part of these events that the client is to see. Raises Disagreement."""
        kept = []
        for event in events(batch):
            fields = _object(event)
            if fields is None:
                if _unread(event):
                    raise Disagreement
                if not (payload(event) or b"").startswith(b"[DONE]"):
                    continue  # comments of the second stream
                self._check_caught_up()
                kept.append(DONE)
            elif adapted := self._adapted(fields):
                kept.append(b"data: " + orjson.dumps(adapted) + b"\n\n")
        return b"".join(kept)

    def _adapted(self, fields: dict[str, Any]) -> dict[str, Any] | None:
        fields |= self.transcript.head
        choices = _choices(fields)
        if not choices:
            return fields  # usage
        said = False
        for choice in choices:
            delta = choice.get("delta")
            if isinstance(delta, dict):
                self._trim(delta)
                said = said or bool(delta)
            if choice.get("finish_reason"):
                self._check_caught_up()
                said = True
        return fields if said else None

    def _trim(self, delta: dict[str, Any]) -> None:
        """Removes from a delta what the client has: its role, and the text before the break."""
        if delta.get("tool_calls") or delta.get("function_call"):
            raise Disagreement
        if self.transcript.role_seen:
            delta.pop("role", None)
        rests = {name: self._rest(name, text) for name in _TEXTS if isinstance(text := delta.get(name), str)}
        if any(rests.values()):
            self._check_caught_up()
        for name, rest in rests.items():
            if rest:
                delta[name] = rest
            else:
                del delta[name]

    def _rest(self, name: str, text: str) -> str:
        """The part of a text that is new to the client."""
        if name not in self._repeated:
            return text if name == "content" or not self._seen.get("content") else ""
        seen, at = self._seen.get(name, ""), self._caught_up.get(name, 0)
        due = seen[at : at + len(text)]
        if not text.startswith(due):
            raise Disagreement
        self._caught_up[name] = at + len(due)
        return text[len(due) :]

    def _check_caught_up(self) -> None:
        """Raises Disagreement if the answer goes on, or ends, before it has repeated all that the client has seen."""
        for name in self._repeated:
            if self._caught_up.get(name, 0) < len(self._seen.get(name, "")):
                raise Disagreement


def handed_on(body: bytes, text: str) -> bytes | None:
    """A chat body that asks to continue from `text`; None if its last message is an assistant's already."""
    span = find(body, _MESSAGES)
    if span is None:
        return None
    messages = orjson.loads(body[span[0] : span[1]])
    if not messages or not isinstance(messages[-1], dict) or messages[-1].get("role") == "assistant":
        return None
    end = span[1] - 1
    return body[:end] + b"," + orjson.dumps({"role": "assistant", "content": text}) + body[end:]


def _object(event: bytes) -> dict[str, Any] | None:
    data = payload(event)
    if data is None or data[:1] != b"{":
        return None
    try:
        fields = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return fields if isinstance(fields, dict) else None


def _unread(event: bytes) -> bool:
    """Whether an event that is not valid JSON may hold content all the same, such as a lone surrogate."""
    try:
        return isinstance(lenient(payload(event) or b""), dict)
    except ValueError:
        return False


def _choices(fields: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [choice for choice in list_of(fields.get("choices")) if isinstance(choice, dict)]
