"""Converts a chat stream into a whole answer, and a whole answer into a stream."""

import json
from collections.abc import Iterable
from io import StringIO
from typing import Any, Final

import orjson

from proxy.errors import SluiceError
from proxy.shapes import list_of
from proxy.sse import DONE, events, payload
from proxy.watch import lenient

_MOST: Final = 1024  # choices of an answer, tool calls of a message: higher indexes are invalid, and would cost memory


class Assembler:
    """Merges chat completion chunks into the `chat.completion` that OpenAI would have sent as a whole.

    Growing texts are StringIO until the end: strings would be copied with every piece.
    """

    def __init__(self) -> None:
        self._head: dict[str, Any] = {}
        self._choices: dict[int, dict[str, Any]] = {}
        self._usage: Any = None
        self._extra: dict[str, Any] = {}
        self.dropped = False  # an event was not JSON, so something may be missing
        self._odd = False  # an event was JSON only for a lenient parser

    def add(self, batch: bytes) -> None:
        """Adds whole events; skips what is not a JSON object. Raises upstream_malformed for invalid chunks."""
        for event in events(batch):
            data = payload(event)
            if not data or data.startswith(b"[DONE]"):
                continue
            try:
                fields = self._read(data)
            except ValueError:
                self.dropped = True
                continue
            if isinstance(fields, dict):
                try:
                    self._add_chunk(fields)
                except (TypeError, AttributeError, KeyError, RecursionError):  # members of unexpected types
                    raise _malformed() from None

    @property
    def empty(self) -> bool:
        """Whether no part of an answer has arrived."""
        return not self._choices

    def whole(self) -> bytes:
        """The answer as JSON bytes. Raises upstream_malformed if it is nested too deeply."""
        text = self._head.get("object") == "text_completion"
        answer = self._head | {"object": "text_completion" if text else "chat.completion"}
        answer["choices"] = [self._choices[index] for index in sorted(self._choices)]
        for choice in answer["choices"]:
            message = choice.get("message")
            if isinstance(message, dict) and message.keys() == {"role", "content"} and message["content"] is None:
                message["content"] = ""  # an empty text; null is for answers with tool calls and the like
        if self._usage is not None:
            answer["usage"] = self._usage
        try:
            if self._odd:  # json joins the halves of a split surrogate pair, which orjson rejects
                return json.dumps(answer | self._extra, separators=(",", ":"), default=StringIO.getvalue).encode()
            return orjson.dumps(answer | self._extra, StringIO.getvalue)
        except (orjson.JSONEncodeError, RecursionError):  # nested too deeply
            raise _malformed() from None

    def _read(self, data: bytes) -> Any:
        try:
            return orjson.loads(data)
        except orjson.JSONDecodeError:
            fields = lenient(data)
            self._odd = True
            return fields

    def _add_chunk(self, fields: dict[str, Any]) -> None:
        if not self._head.get("id"):  # in Azure's first chunk (prompt filter results) all of them are empty
            given = {key: fields[key] for key in ("id", "object", "created", "model") if key in fields}
            self._head |= given | {key: value for key, value in self._head.items() if value}
        for key, value in fields.items():
            if key == "usage":
                self._usage = value or self._usage
            elif key == "choices":
                for choice in value if isinstance(value, list) else ():
                    if isinstance(choice, dict):
                        self._add_choice(choice)
            elif key not in self._head and key != "obfuscation":
                self._extra[key] = value

    def _add_choice(self, choice: dict[str, Any]) -> None:
        index = _index(choice.get("index", 0))
        if "text" in choice:
            kept = self._choices.setdefault(index, {"index": index, "text": "", "finish_reason": None})
            _grow(kept, "text", choice["text"])
        else:
            empty = {"index": index, "message": {"role": "assistant", "content": None}, "finish_reason": None}
            kept = self._choices.setdefault(index, empty)
            delta = choice.get("delta")
            if isinstance(delta, dict):
                _join(kept["message"], delta)
        for key, value in choice.items():
            if key == "logprobs" and isinstance(value, dict) and isinstance(kept.get(key), dict):
                _join_logprobs(kept[key], value)
            elif key not in ("index", "delta", "text") and (value is not None or key not in kept):
                kept[key] = value


def _join(message: dict[str, Any], delta: dict[str, Any]) -> None:
    """Adds one delta to a message: texts are appended, tool calls merged by index, other values replaced."""
    for key, value in delta.items():
        if key == "tool_calls" and isinstance(value, list):
            calls = message["tool_calls"] = message.get("tool_calls") or []
            for part in value:
                _join_tool_call(calls, part)
        elif key == "reasoning_details" and isinstance(value, list):
            details = message[key] = message.get(key) or []
            for part in value:
                _join_detail(details, part)
        elif key != "role" and isinstance(value, str) and isinstance(message.get(key), str | StringIO):
            _grow(message, key, value)
        elif isinstance(value, list) and isinstance(message.get(key), list):
            message[key].extend(value)
        elif isinstance(value, dict) and isinstance(message.get(key), dict):
            _join(message[key], value)
        elif value is not None or key not in message:
            message[key] = value


def _grow(fields: dict[str, Any], key: str, piece: str | None) -> None:
    """Appends to a text. Raises TypeError if the piece is not a text."""
    if not piece:
        return
    text = fields[key]
    if not isinstance(text, StringIO):
        fields[key] = StringIO()
        fields[key].write(text)
    fields[key].write(piece)


def _join_detail(details: list[Any], part: Any) -> None:
    """Adds a piece of OpenRouter's `reasoning_details`: to the last detail if it continues that, else as a new one.

    The signature in the last piece covers the whole detail.
    """
    last = details[-1] if details else None
    if not isinstance(last, dict) or not isinstance(part, dict) or part.get("index") is None:
        details.append(part)
    elif any(last.get(name) != part.get(name) for name in ("index", "type")):
        details.append(part)
    else:
        for name, value in part.items():
            if name in ("text", "summary") and last.get(name):
                _join(last, {name: value})
            elif value is not None:
                last[name] = value


def _join_tool_call(calls: list[dict[str, Any]], part: dict[str, Any]) -> None:
    index = _index(part.get("index", len(calls)))
    while len(calls) <= index:
        calls.append({"id": "", "type": "function", "function": {"name": "", "arguments": ""}})
    call, function = calls[index], part.get("function") or {}
    call["id"] = part.get("id") or call["id"]
    call["type"] = part.get("type") or call["type"]
    _grow(call["function"], "name", function.get("name"))
    _grow(call["function"], "arguments", function.get("arguments"))
    _join(call, {key: value for key, value in part.items() if key not in ("index", "id", "type", "function")})


def _index(value: Any) -> int:
    if not isinstance(value, int) or not 0 <= value < _MOST:
        raise _malformed()
    return value


def _malformed() -> SluiceError:
    return SluiceError("upstream_malformed", "The upstream's answer is not a completion.", again="next")


def _join_logprobs(kept: dict[str, Any], more: dict[str, Any]) -> None:
    for key, value in more.items():
        if isinstance(kept.get(key), list):
            kept[key].extend(list_of(value))
        else:
            kept[key] = value


def as_stream(whole: bytes) -> bytes:
    """Converts a `chat.completion` (or `text_completion`) into the events of a stream, with usage and `[DONE]`.

    Raises upstream_malformed if it is not one, upstream_truncated if a choice has no finish reason.
    """
    try:
        answer = orjson.loads(whole)
    except orjson.JSONDecodeError:
        raise _malformed() from None
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(choices, list) or not choices or not all(map(_is_choice, choices)):
        raise _malformed()
    if not all(choice.get("finish_reason") for choice in choices):
        raise SluiceError("upstream_truncated", "The upstream's answer has no finish reason.", again="same")
    head = {key: value for key, value in answer.items() if key not in ("choices", "usage", "object")}
    head["object"] = "text_completion" if answer.get("object") == "text_completion" else "chat.completion.chunk"
    lines = [head | {"choices": [chunk]} for choice in choices for chunk in _chunks_of(choice)]
    if answer.get("usage") is not None:
        lines.append(head | {"choices": [], "usage": answer["usage"]})
    try:
        return b"".join(b"data: " + orjson.dumps(line) + b"\n\n" for line in lines) + DONE
    except orjson.JSONEncodeError:  # nested too deeply
        raise _malformed() from None


def _is_choice(choice: Any) -> bool:
    return isinstance(choice, dict) and (isinstance(choice.get("message"), dict) or isinstance(choice.get("text"), str))


def _chunks_of(choice: dict[str, Any]) -> Iterable[dict[str, Any]]:
    rest = {key: value for key, value in choice.items() if key not in ("message", "finish_reason")}
    index, finish = choice.get("index", 0), choice["finish_reason"]
    if not isinstance(choice.get("message"), dict):
        yield rest | {"finish_reason": finish}
        return
    message = dict(choice["message"])
    if isinstance(message.get("tool_calls"), list):
        message["tool_calls"] = [
            {"index": at} | call for at, call in enumerate(message["tool_calls"]) if isinstance(call, dict)
        ]
    yield rest | {"delta": message, "finish_reason": None}
    yield {"index": index, "delta": {}, "finish_reason": finish}
