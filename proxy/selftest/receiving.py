"""Parses what the caller got from the raw bytes of the answer."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import orjson

from proxy.shapes import object_of, string_of
from proxy.sse import events, payload

_END_OF_HEAD: Final = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Received:
    """One answer. `seconds`: from the first byte of the request to the last byte of the answer."""

    seconds: float
    hung: bool = False  # it had not ended within the caller's time
    status: int = 0  # 0: no head came
    headers: Mapping[str, str] = field(default_factory=dict)
    whole: bool = False  # the body ended as its framing said
    text: str = ""
    finishes: tuple[str, ...] = ()
    done: bool = False  # [DONE] came; of an answer in one piece: it was a completion
    code: str | None = None  # of the error that it reports
    message: str = ""
    model: str = ""
    counted: int | None = None  # input tokens as reported
    ids: int = 0  # number of different ids
    roles: int = 0
    invalid_events: int = 0  # events that are not JSON
    oddities: tuple[str, ...] = ()  # violations of the format


def parse_answer(raw: bytes, seconds: float, hung: bool) -> Received:
    """Parses an answer: a head, and a body of JSON or events."""
    head, found, rest = raw.partition(_END_OF_HEAD)
    if not found:
        return Received(seconds, hung, oddities=("an incomplete head",) if raw else ())
    lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    body, whole = _unframed(rest, headers)
    received = Received(seconds, hung, int(lines[0].split()[1]), headers, whole)
    kind = headers.get("content-type", "")
    if kind.startswith("text/event-stream"):
        return _streamed(received, body)
    if body.lstrip()[:1] != b"{" and b"data:" in body:
        received = _streamed(received, body)
        return replace(received, oddities=(*received.oddities, f"events with the content type {kind}"))
    return _in_one_piece(received, body)


def _unframed(rest: bytes, headers: Mapping[str, str]) -> tuple[bytes, bool]:
    """The body, and whether all of it came."""
    if headers.get("transfer-encoding") != "chunked":
        length = int(headers.get("content-length", "0"))
        return rest[:length], len(rest) == length
    pieces, at = [], 0
    while (end := rest.find(b"\r\n", at)) >= 0:
        size = int(rest[at:end], 16)
        pieces.append(rest[end + 2 : end + 2 + size])
        at = end + 2 + size + 2
        if not size:
            return b"".join(pieces), at == len(rest)
    return b"".join(pieces), False


def _in_one_piece(received: Received, body: bytes) -> Received:
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError:
        return replace(received, oddities=("a body that is not JSON",))
    if not isinstance(fields, dict):
        return replace(received, oddities=("a body that is not a JSON object",))
    if "error" in fields:
        return _failed(received, fields["error"])
    choice = _first(fields)
    message = object_of(choice.get("message"))
    finish = choice.get("finish_reason")
    return replace(
        received,
        text=str(message.get("content") or ""),
        finishes=(str(finish),) if finish else (),
        done=fields.get("object") == "chat.completion",
        model=str(fields.get("model", "")),
        counted=object_of(fields.get("usage")).get("prompt_tokens"),
        ids=1,
        roles=1,
    )


def _streamed(received: Received, body: bytes) -> Received:
    """Assembles the events of a chat."""
    collected = _Events()
    for event in events(body):
        data = payload(event)
        if data is not None:
            collected.take(data)
    received = replace(received, text="".join(collected.text), finishes=tuple(collected.finishes), done=collected.done)
    received = replace(
        received, model=collected.model, counted=collected.counted, ids=len(collected.ids), roles=collected.roles
    )
    received = replace(received, invalid_events=collected.invalid_events, oddities=tuple(collected.oddities))
    return received if collected.error is None else _failed(received, collected.error)


@dataclass(slots=True)
class _Events:
    """The events of a streamed chat, in order."""

    text: list[str] = field(default_factory=list)
    finishes: list[str] = field(default_factory=list)
    done: bool = False
    error: object = None
    model: str = ""
    counted: int | None = None
    ids: set[str] = field(default_factory=set)
    roles: int = 0
    invalid_events: int = 0
    oddities: list[str] = field(default_factory=list)

    def take(self, data: bytes) -> None:
        """The data of one event."""
        if self.done or self.error is not None:
            self.oddities.append("an event after the end")
        if data == b"[DONE]":
            self.done = True
            return
        try:
            fields = orjson.loads(data)
        except orjson.JSONDecodeError:
            self.invalid_events += 1
            return
        if not isinstance(fields, dict):
            self.oddities.append("an event that is not a JSON object")
        elif fields.get("error") is not None:
            self.error = fields["error"]
        else:
            self._chunk(fields)

    def _chunk(self, fields: dict[str, Any]) -> None:
        self.model = str(fields.get("model") or self.model)
        if isinstance(fields.get("id"), str):
            self.ids.add(fields["id"])
        usage = object_of(fields.get("usage"))
        self.counted = usage.get("prompt_tokens", self.counted)
        choice = _first(fields)
        delta = object_of(choice.get("delta"))
        content = delta.get("content")
        if content and self.finishes:
            self.oddities.append("text after the finish reason")
        self.text.append(string_of(content))
        self.roles += "role" in delta
        if choice.get("finish_reason"):
            self.finishes.append(str(choice["finish_reason"]))


def _failed(received: Received, error: object) -> Received:
    fields = object_of(error)
    if not {"message", "type", "param", "code"} <= fields.keys():
        return replace(received, code="", oddities=(*received.oddities, "an error that is not in OpenAI's form"))
    return replace(received, code=str(fields["code"]), message=str(fields["message"]))


def _first(fields: Mapping[str, Any]) -> dict[str, Any]:
    choices = fields.get("choices")
    return object_of(choices[0]) if isinstance(choices, list) and choices else {}
