"""Rewrites requests on the way out and answers on the way back, by rules compiled when the configuration is loaded."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import orjson

from proxy.call import Headers
from proxy.jsonedit import Edit, compile_default, compile_remove, compile_rename, compile_set, put
from proxy.jsonspans import Path, children, find, model_spans
from proxy.sse import events, payload
from proxy.watch import lenient

How = Literal["replace", "prepend", "append"]

_MESSAGES: Final = Path.of("messages")
_CONTENT: Final = Path.of("content")
_INSTRUCTIONS: Final = Path.of("instructions")
_NESTED_MODEL: Final = Path.of("response.model")  # its path in events of the Responses API
_ASK_USAGE: Final = compile_set("stream_options.include_usage", True)
_ASK_USAGE_AFRESH: Final = compile_set("stream_options", {"include_usage": True})
_USAGE_ASKED: Final = b'{"stream_options":{"include_usage":true},'
_DATA_LINE: Final = re.compile(
    rb"(?:\A(?:\xef\xbb\xbf)?|(?<=[\r\n]))data(?::\x20?([^\r\n]*+))?+(?:\r\n|\r|\n|\Z)"
)  # as `sse.payload` reads them


@dataclass(frozen=True, slots=True)
class SystemText:
    """Texts to put before or after the client's system text, or in its place; None: unchanged."""

    prepend: str | None = None
    append: str | None = None
    replace: str | None = None


@dataclass(frozen=True, slots=True)
class HeaderChanges:
    """Header lines to set and to remove; values are Latin-1."""

    set: Mapping[str, str] = field(default_factory=dict)
    remove: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RequestRewrite:
    """`request:` of a route; paths are dotted, `\\.` is a dot in a name, numbers index lists."""

    rename: Mapping[str, str] = field(default_factory=dict)
    default: Mapping[str, Any] = field(default_factory=dict)
    set: Mapping[str, Any] = field(default_factory=dict)
    remove: tuple[str, ...] = ()
    system: SystemText = SystemText()
    headers: HeaderChanges = field(default_factory=HeaderChanges)


@dataclass(frozen=True, slots=True)
class ResponseRewrite:
    """`response:` of a route."""

    set: Mapping[str, Any] = field(default_factory=dict)
    remove: tuple[str, ...] = ()
    model: Literal["upstream", "asked"] = "upstream"


@dataclass(frozen=True, slots=True)
class System:
    """One change to the system text, with the JSON that it inserts."""

    how: How
    text: bytes  # a JSON string
    joint: bytes  # the text and a blank line, without quotes
    part: bytes  # the text as a part of a message
    message: bytes  # the text as a message

    @classmethod
    def of(cls, how: How, text: str) -> "System":
        """The change of the kind `how` with this text."""
        joint = f"{text}\n\n" if how == "prepend" else f"\n\n{text}"
        part, message = {"type": "text", "text": text}, {"role": "system", "content": text}
        return cls(how, orjson.dumps(text), orjson.dumps(joint)[1:-1], orjson.dumps(part), orjson.dumps(message))

    def in_messages(self, body: bytes, messages: Any) -> bytes:
        """The body of a chat, with its parsed `messages`, after the change. If none has system text, one is added."""
        if not isinstance(messages, list):
            return body
        ours = [index for index, message in enumerate(messages) if _is_system(message)]
        if self.how == "replace":
            for index in reversed(ours[1:]):
                body = compile_remove(f"messages.{index}")(body)
        if (span := find(body, _MESSAGES)) is None:
            return body
        if ours:
            item = children(body, span[0], ours[0] + 1)[ours[0]]
            had = body[item.start : item.end]
            new = self._joined(had, _CONTENT, messages[ours[0]].get("content"))
            return body if new is had else body[: item.start] + new + body[item.end :]
        start = span[0] + 1
        return body[:start] + self.message + (b"," if messages else b"") + body[start:]

    def in_instructions(self, body: bytes, instructions: Any) -> bytes:
        """The body of a Responses API call, with `instructions` as parsed, after the change."""
        return self._joined(body, _INSTRUCTIONS, instructions)

    def _joined(self, raw: bytes, path: Path, content: Any) -> bytes:
        """Joins the text to the (parsed) content at `path`; the bytes of the content stay."""
        span = find(raw, path)
        if span is None or self.how == "replace" or not content or not isinstance(content, str | list):
            if content == [] and self.how != "replace":
                return put(raw, path, b"[" + self.part + b"]")
            return put(raw, path, self.text)
        first = self.how == "prepend"
        at = span[0] + 1 if first else span[1] - 1
        if isinstance(content, str):
            return raw[:at] + self.joint + raw[at:]
        return raw[:at] + (self.part + b"," if first else b"," + self.part) + raw[at:]


@dataclass(frozen=True, slots=True)
class RequestRules:
    """A route's compiled rules for requests: edits with their descriptions in order, then system text, then headers."""

    edits: tuple[tuple[str, Edit], ...] = ()
    systems: tuple[System, ...] = ()
    set_headers: tuple[tuple[bytes, bytes], ...] = ()
    remove_headers: tuple[bytes, ...] = ()
    is_identity: bool = field(init=False)  # nothing to do: `apply` need not be called

    def __post_init__(self) -> None:
        identity = not (self.edits or self.systems or self.set_headers or self.remove_headers)
        object.__setattr__(self, "is_identity", identity)  # frozen

    @classmethod
    def of(cls, rewrite: RequestRewrite) -> "RequestRules":
        """Compiles the rules. Raises ValueError for an invalid header, or a rename of a path into itself."""
        edits = [(f"rename {old}->{new}", compile_rename(old, new)) for old, new in rewrite.rename.items()]
        edits += [(f"default {path}", compile_default(path, value)) for path, value in rewrite.default.items()]
        edits += [(f"set {path}", compile_set(path, value)) for path, value in rewrite.set.items()]
        edits += [(f"remove {path}", compile_remove(path)) for path in rewrite.remove]
        texts: tuple[tuple[How, str | None], ...] = (
            ("replace", rewrite.system.replace),
            ("prepend", rewrite.system.prepend),
            ("append", rewrite.system.append),
        )
        return cls(
            tuple(edits),
            tuple(System.of(how, text) for how, text in texts if text),
            tuple((_header(name), _header(value, lower=False)) for name, value in rewrite.headers.set.items()),
            tuple(_header(name) for name in rewrite.headers.remove),
        )

    def apply(
        self, body: bytes, fields: Mapping[str, Any], headers: Headers, endpoint: str = "chat/completions"
    ) -> tuple[bytes, Headers, tuple[str, ...]]:
        """Body and headers after the rules (the same objects if nothing changed), and the list of changes.

        `fields` is `body`, parsed; `endpoint` decides where a system text goes: only `responses` has `instructions`.
        """
        changes: list[str] = []
        edited = body
        for receipt, edit in self.edits:
            before, edited = edited, edit(edited)
            if edited is not before:
                changes.append(receipt)
        for system in self.systems:
            before, edited = edited, _with_system(system, edited, fields if edited is body else None, endpoint)
            if edited is not before:
                changes.append(f"system {system.how}")
        if self.set_headers or self.remove_headers:
            headers = self._headers(headers, changes)
        return edited, headers, tuple(changes)

    def _headers(self, headers: Headers, changes: list[str]) -> Headers:
        for name, value in self.set_headers:
            if [line for line in headers if line[0] == name] != [(name, value)]:
                headers = [*(line for line in headers if line[0] != name), (name, value)]
                changes.append(f"header set {name.decode('latin-1')}")
        for name in self.remove_headers:
            if any(line[0] == name for line in headers):
                headers = [line for line in headers if line[0] != name]
                changes.append(f"header remove {name.decode('latin-1')}")
        return headers


def _is_system(message: Any) -> bool:
    return isinstance(message, dict) and message.get("role") in ("system", "developer")


def _with_system(system: System, body: bytes, fields: Mapping[str, Any] | None, endpoint: str) -> bytes:
    """The body with the system text; `fields`: None if earlier rules changed the body."""
    known = orjson.loads(body) if fields is None else fields
    if endpoint == "responses":
        return system.in_instructions(body, known.get("instructions"))
    return system.in_messages(body, known.get("messages"))


def _header(text: str, lower: bool = True) -> bytes:
    if any(mark in text for mark in "\r\n\0"):
        raise ValueError("a header holds neither line breaks nor NUL")
    return (text.lower() if lower else text).encode("latin-1")


def ask_usage(body: bytes, fields: Mapping[str, Any]) -> bytes:
    """The body with `stream_options.include_usage` true; `fields` is this very body, parsed."""
    if "stream_options" in fields:
        return _ASK_USAGE_AFRESH(body) if fields["stream_options"] is None else _ASK_USAGE(body)
    if body[:1] == b"{" and fields:
        return _USAGE_ASKED + body[1:]
    return _ASK_USAGE(body)


@dataclass(frozen=True, slots=True)
class ResponseRules:
    """A route's compiled rules for answers, whole or as events: set, remove, then the model name."""

    edits: tuple[Edit, ...] = ()
    asked: bool = False  # `response.model: asked`
    is_identity: bool = field(init=False)  # nothing to do: `whole` and `events` need not be called

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_identity", not (self.edits or self.asked))  # frozen

    @classmethod
    def of(cls, rewrite: ResponseRewrite) -> "ResponseRules":
        """Compiles the rules."""
        edits = [compile_set(path, value) for path, value in rewrite.set.items()]
        edits += [compile_remove(path) for path in rewrite.remove]
        return cls(tuple(edits), rewrite.model == "asked" and "model" not in rewrite.remove)

    def whole(self, body: bytes, asked: str) -> bytes:
        """A whole answer after the rules; anything but a JSON object passes unchanged."""
        try:
            fields = lenient(body)
            return self._edited(body, fields, asked) if isinstance(fields, dict) else body
        except ValueError:
            return body

    def events(self, batch: bytes, asked: str) -> bytes:
        """Whole server-sent events after the rules; comments, `[DONE]` and data that is no object stay unchanged."""
        return b"".join([self._event(event, asked) for event in events(batch)])

    def _event(self, event: bytes, asked: str) -> bytes:
        data = payload(event)
        if data is None or data == b"[DONE]":
            return event
        edited = self.whole(data, asked)
        if edited is data:
            return event
        if len(event) == len(data) + 8 and event.startswith(b"data: "):
            return b"data: " + edited + b"\n\n"
        return _with_data(event, edited)

    def _edited(self, data: bytes, fields: dict[str, Any], asked: str) -> bytes:
        for edit in self.edits:
            data = edit(data)
        if self.asked:
            if isinstance(fields.get("model"), str) and fields["model"] != asked:
                data = _renamed(data, asked)
            if isinstance(nested := fields.get("response"), dict) and isinstance(nested.get("model"), str):
                data = put(data, _NESTED_MODEL, orjson.dumps(asked), make=False)
        return data


def _renamed(data: bytes, asked: str) -> bytes:
    """The answer, which has a model, with `asked` in its place."""
    name = orjson.dumps(asked)
    for start, end in reversed(model_spans(data)):
        data = data[:start] + name + data[end:]
    return data


def _with_data(event: bytes, data: bytes) -> bytes:
    """The event with other data in place of its first `data` line; further `data` lines go, all others stay."""
    parts = []
    at = 0
    for line in _DATA_LINE.finditer(event):
        if data and line[1] is not None:
            parts += [event[at : line.start(1)], data.replace(b"\n", b"\ndata: ")]
            at, data = line.end(1), b""
        else:
            parts.append(event[at : line.start()])
            at = line.end()
    return b"".join((*parts, event[at:]))
