"""A route's rewriting rules, compiled once at load: calls on the way out, answers and events on the way back."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import orjson

from proxy import jsonedit
from proxy.call import Headers
from proxy.jsonedit import Edit, Path
from proxy.sse import events, payload

_MESSAGES: Final = Path.of("messages")
_INSTRUCTIONS: Final = Path.of("instructions")
_INCLUDE_USAGE: Final = jsonedit.compile_set("stream_options.include_usage", True)
_SYSTEM_ROLES: Final = ("system", "developer")
_WITH_SYSTEM: Final = ("chat/completions", "responses")


class SystemRule(Protocol):
    """Texts for the system prompt; None: nothing."""

    @property
    def prepend(self) -> str | None: ...
    @property
    def append(self) -> str | None: ...
    @property
    def replace(self) -> str | None: ...


class HeaderRule(Protocol):
    """Header lines to put in place and to take out, names in lower case."""

    @property
    def set(self) -> Mapping[str, str]: ...
    @property
    def remove(self) -> tuple[str, ...]: ...


class RequestRule(Protocol):
    """`request:` of a route, as the settings have it; paths are dotted."""

    @property
    def rename(self) -> Mapping[str, str]: ...
    @property
    def default(self) -> Mapping[str, Any]: ...
    @property
    def set(self) -> Mapping[str, Any]: ...
    @property
    def remove(self) -> tuple[str, ...]: ...
    @property
    def system(self) -> SystemRule: ...
    @property
    def headers(self) -> HeaderRule: ...


class ResponseRule(Protocol):
    """`response:` of a route."""

    @property
    def set(self) -> Mapping[str, Any]: ...
    @property
    def remove(self) -> tuple[str, ...]: ...
    @property
    def model(self) -> str: ...


@dataclass(frozen=True, slots=True)
class RequestRules:
    """Rules for the way out, in order: (receipt, edit) pairs, then the system text, then headers."""

    edits: tuple[tuple[str, Edit], ...] = ()
    system: tuple[tuple[str, str], ...] = ()  # (prepend | append | replace, text)
    set_headers: tuple[tuple[bytes, bytes], ...] = ()
    remove_headers: tuple[bytes, ...] = ()

    @classmethod
    def of(cls, rule: RequestRule) -> "RequestRules":
        """Compiles the settings' rules: rename, default, set, remove, system, headers."""
        edits = [(f"rename {old}->{new}", jsonedit.compile_rename(old, new)) for old, new in rule.rename.items()]
        edits += [(f"default {path}", jsonedit.compile_default(path, value)) for path, value in rule.default.items()]
        edits += [(f"set {path}", jsonedit.compile_set(path, value)) for path, value in rule.set.items()]
        edits += [(f"remove {path}", jsonedit.compile_remove(path)) for path in rule.remove]
        texts = (("replace", rule.system.replace), ("prepend", rule.system.prepend), ("append", rule.system.append))
        return cls(
            tuple(edits),
            tuple((how, text) for how, text in texts if text),
            tuple((name.encode(), value.encode()) for name, value in rule.headers.set.items()),
            tuple(name.encode() for name in rule.headers.remove),
        )

    @classmethod
    def of_preset(cls, system: str | None, values: Mapping[str, Any]) -> "RequestRules":
        """The rules of a persona: its parameters are set, its system text goes before the client's own."""
        edits = [(f"set {path}", jsonedit.compile_set(path, value)) for path, value in values.items()]
        return cls(tuple(edits), (("prepend", system),) if system else ())

    @property
    def is_identity(self) -> bool:
        """Whether nothing is ever changed."""
        return not (self.edits or self.system or self.set_headers or self.remove_headers)

    def apply(self, body: bytes, headers: Headers, endpoint: str) -> tuple[bytes, Headers, tuple[str, ...]]:
        """Body and headers after the rules, and a receipt for each that changed something."""
        changes = []
        for receipt, change in self.edits:
            edited = change(body)
            if edited is not body and edited != body:
                changes.append(receipt)
            body = edited
        for how, text in self.system if endpoint in _WITH_SYSTEM else ():
            edited = with_system(body, how, text)
            if edited != body:
                changes.append(f"system {how}")
            body = edited
        if self.set_headers or self.remove_headers:
            headers, more = self._headers(headers)
            changes += more
        return body, headers, tuple(changes)

    def _headers(self, headers: Headers) -> tuple[Headers, list[str]]:
        had, put = dict(headers), dict(self.set_headers)
        changes = [f"header set {name.decode()}" for name, value in self.set_headers if had.get(name) != value]
        changes += [f"header remove {name.decode()}" for name in self.remove_headers if name in had]
        gone = {*put, *self.remove_headers}
        kept = [line for line in headers if line[0] not in gone]
        return [*kept, *((name, value) for name, value in put.items() if name not in self.remove_headers)], changes


def with_system(body: bytes, how: str, text: str) -> bytes:
    """The body with `text` before, behind or in place of its system text; no other byte changes."""
    span = jsonedit.find(body, _MESSAGES)
    if span is None:
        return _with_instructions(body, how, text)
    raw = body[span[0] : span[1]]
    messages = orjson.loads(raw)
    if not isinstance(messages, list):
        return body
    for at, message in enumerate(messages):
        if isinstance(message, dict) and message.get("role") in _SYSTEM_ROLES:
            content = orjson.dumps(_joined(message.get("content"), how, text))
            return jsonedit.put(body, Path.of(f"messages.{at}.content"), content)
    first = orjson.dumps({"role": "system", "content": text}) + (b"," if messages else b"")
    start = span[0] + 1
    return body[:start] + first + body[start:]


def _with_instructions(body: bytes, how: str, text: str) -> bytes:
    """The same for a body of the Responses API."""
    had = orjson.loads(body).get("instructions")
    return jsonedit.put(body, _INSTRUCTIONS, orjson.dumps(_joined(had, how, text)))


def _joined(content: Any, how: str, text: str) -> Any:
    """A message's content with the text added: a string with a blank line between, or one more text part."""
    if isinstance(content, list) and how != "replace":
        part = {"type": "text", "text": text}
        return [part, *content] if how == "prepend" else [*content, part]
    if how == "replace" or not isinstance(content, str) or not content:
        return text
    return f"{text}\n\n{content}" if how == "prepend" else f"{content}\n\n{text}"


def ask_usage(body: bytes) -> bytes:
    """The body with `stream_options.include_usage` true."""
    return _INCLUDE_USAGE(body)


@dataclass(frozen=True, slots=True)
class ResponseRules:
    """Rules for the way back, in order: set, remove, then the model's name."""

    edits: tuple[Edit, ...] = ()
    asked: bool = False  # the client's own name for the model is shown
    _model: Path = field(default=Path.of("model"))

    @classmethod
    def of(cls, rule: ResponseRule) -> "ResponseRules":
        """Compiles the settings' rules."""
        edits = [jsonedit.compile_set(path, value) for path, value in rule.set.items()]
        edits += [jsonedit.compile_remove(path) for path in rule.remove]
        return cls(tuple(edits), rule.model == "asked")

    @property
    def is_identity(self) -> bool:
        """Whether nothing is ever changed."""
        return not (self.edits or self.asked)

    def whole(self, body: bytes, asked: str) -> bytes:
        """A whole answer after the rules; what is no JSON object passes as it is."""
        if not body.lstrip()[:1] == b"{":
            return body
        return self._edited(body, orjson.dumps(asked))

    def events(self, batch: bytes, asked: str) -> bytes:
        """Whole events after the rules; comments, `[DONE]` and what is no JSON object pass as they are."""
        name = orjson.dumps(asked)
        return b"".join([self._event(event, name) for event in events(batch)])

    def _event(self, event: bytes, name: bytes) -> bytes:
        data = payload(event)
        if data is None or data[:1] != b"{":
            return event
        edited = self._edited(data, name)
        if edited is data:
            return event
        if event.startswith(b"data: ") and event[6:-2] == data:
            return b"data: " + edited + event[-2:]
        kept = [line for line in event.splitlines(keepends=True) if line.strip() and not line.startswith(b"data")]
        return b"".join(kept) + b"data: " + edited.replace(b"\n", b"") + b"\n\n"

    def _edited(self, data: bytes, name: bytes) -> bytes:
        try:
            for change in self.edits:
                data = change(data)
            if self.asked:
                data = jsonedit.put(data, self._model, name, make=False)
        except (ValueError, IndexError):
            return data  # no JSON: it passes as it came, and whoever watches the stream has counted it
        return data
