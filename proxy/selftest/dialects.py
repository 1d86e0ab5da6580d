"""Answers in the dialects of providers: OpenAI (and compatible ones), Ollama, Anthropic.

Sources: OpenAI's SDK (`types/chat`), Ollama's docs/api.md, Anthropic's SDK (`types/raw_*.py`).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import orjson

from proxy.selftest.words import TOKENS, Completion

CREATED: Final = 1_741_569_952


@dataclass(frozen=True, slots=True)
class Stream:
    """A correct stream, divided where faults occur; each item is one event."""

    opening: tuple[bytes, ...]  # the role, and anything else before content
    tokens: tuple[bytes, ...]
    finish: tuple[bytes, ...]  # up to the finish reason
    usage: tuple[bytes, ...]
    end: tuple[bytes, ...]  # the end marker

    @property
    def events(self) -> tuple[bytes, ...]:
        """All events."""
        return (*self.opening, *self.tokens, *self.finish, *self.usage, *self.end)


class Dialect(Protocol):
    """One dialect. `kind`: the content type of streams."""

    name: str
    kind: str

    def stream(self, completion: Completion) -> Stream:
        """The answer as a stream."""
        ...

    def whole(self, completion: Completion) -> bytes:
        """The answer as a whole."""
        ...

    def error(self, status: int, message: str, code: str) -> bytes:
        """The body of an HTTP error."""
        ...

    def error_event(self, message: str) -> bytes:
        """An error within a stream."""
        ...

    def models(self, names: Iterable[str]) -> bytes:
        """The list of models."""
        ...


def event(fields: object, name: str = "") -> bytes:
    """One server-sent event."""
    return (b"event: %b\n" % name.encode() if name else b"") + b"data: " + orjson.dumps(fields) + b"\n\n"


class OpenAI:
    """Chat completions."""

    name = "openai"
    kind = "text/event-stream"

    def stream(self, completion: Completion) -> Stream:
        """`chat.completion.chunk` events; usage where `stream_options` asks for it."""
        return Stream(
            (self._chunk(completion, {"role": "assistant", "content": ""}),),
            tuple(self._chunk(completion, {"content": token}) for token in completion.tokens),
            (self._chunk(completion, {}, "stop"),),
            (event(self._base(completion) | {"choices": [], "usage": _usage(completion)}),) if completion.usage else (),
            (b"data: [DONE]\n\n",),
        )

    def whole(self, completion: Completion) -> bytes:
        """A `chat.completion`."""
        choice = {"index": 0, "message": {"role": "assistant", "content": completion.text}, "finish_reason": "stop"}
        base = self._base(completion) | {"object": "chat.completion"}
        return orjson.dumps(base | {"choices": [choice], "usage": _usage(completion)})

    def error(self, status: int, message: str, code: str) -> bytes:
        """OpenAI's envelope."""
        kind = "invalid_request_error" if status < 429 else "server_error"
        return orjson.dumps({"error": {"message": message, "type": kind, "param": None, "code": code or None}})

    def error_event(self, message: str) -> bytes:
        """The envelope as an event."""
        return b"data: " + self.error(500, message, "server_error") + b"\n\n"

    def models(self, names: Iterable[str]) -> bytes:
        """A `list`."""
        return orjson.dumps({"object": "list", "data": [{"id": name, "object": "model"} for name in names]})

    def _base(self, completion: Completion) -> dict[str, Any]:
        made = f"chatcmpl-selftest{completion.counted}"
        return {"id": made, "object": "chat.completion.chunk", "created": CREATED, "model": completion.model}

    def _chunk(self, completion: Completion, delta: dict[str, Any], finish: str | None = None) -> bytes:
        return event(self._base(completion) | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})


def _usage(completion: Completion) -> dict[str, int]:
    return {
        "prompt_tokens": completion.counted,
        "completion_tokens": TOKENS,
        "total_tokens": completion.counted + TOKENS,
    }


class Ollama:
    """/api/chat: one JSON object per line; the last one has `done: true`."""

    name = "ollama"
    kind = "application/x-ndjson"

    def stream(self, completion: Completion) -> Stream:
        """Lines."""
        tokens = tuple(self._line(completion, token) + b"\n" for token in completion.tokens)
        return Stream((), tokens, (self._last(completion, "") + b"\n",), (), ())

    def whole(self, completion: Completion) -> bytes:
        """The last line, with the whole text."""
        return self._last(completion, completion.text)

    def error(self, status: int, message: str, code: str) -> bytes:
        """The error as a text."""
        return orjson.dumps({"error": message})

    def error_event(self, message: str) -> bytes:
        """The same as a line."""
        return self.error(500, message, "") + b"\n"

    def models(self, names: Iterable[str]) -> bytes:
        """/api/tags."""
        return orjson.dumps({"models": [{"name": name, "model": name} for name in names]})

    def _fields(self, completion: Completion, text: str) -> dict[str, Any]:
        message = {"role": "assistant", "content": text}
        return {"model": completion.model, "created_at": "2026-01-01T00:00:00Z", "message": message, "done": False}

    def _line(self, completion: Completion, text: str) -> bytes:
        return orjson.dumps(self._fields(completion, text))

    def _last(self, completion: Completion, text: str) -> bytes:
        counts = {"done": True, "done_reason": "stop", "prompt_eval_count": completion.counted, "eval_count": TOKENS}
        return orjson.dumps(self._fields(completion, text) | counts)


class Anthropic:
    """Messages."""

    name = "anthropic"
    kind = "text/event-stream"

    def stream(self, completion: Completion) -> Stream:
        """Named events."""
        block: dict[str, Any] = {"type": "content_block_start", "index": 0, "content_block": {"type": "text"}}
        block["content_block"]["text"] = ""
        message = self._message(completion) | {"content": [], "stop_reason": None}
        ends = {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}}
        return Stream(
            (_named({"type": "message_start", "message": message}), _named(block)),
            tuple(
                _named({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": token}})
                for token in completion.tokens
            ),
            (
                _named({"type": "content_block_stop", "index": 0}),
                _named(ends | {"usage": {"output_tokens": TOKENS}}),
            ),
            (),
            (_named({"type": "message_stop"}),),
        )

    def whole(self, completion: Completion) -> bytes:
        """A `message`."""
        content = [{"type": "text", "text": completion.text}]
        return orjson.dumps(self._message(completion) | {"content": content, "stop_reason": "end_turn"})

    def error(self, status: int, message: str, code: str) -> bytes:
        """`{"type": "error", "error": {…}}`."""
        kinds = {400: "invalid_request_error", 429: "rate_limit_error", 503: "overloaded_error"}
        return orjson.dumps({"type": "error", "error": {"type": kinds.get(status, "api_error"), "message": message}})

    def error_event(self, message: str) -> bytes:
        """The same as an event."""
        return b"event: error\ndata: " + self.error(500, message, "") + b"\n\n"

    def models(self, names: Iterable[str]) -> bytes:
        """One page."""
        data = [{"type": "model", "id": name, "display_name": name} for name in names]
        return orjson.dumps({"data": data, "has_more": False, "first_id": None, "last_id": None})

    def _message(self, completion: Completion) -> dict[str, Any]:
        usage = {"input_tokens": completion.counted, "output_tokens": TOKENS}
        return {"id": "msg_selftest", "type": "message", "role": "assistant", "model": completion.model, "usage": usage}


def _named(fields: dict[str, Any]) -> bytes:
    return event(fields, str(fields["type"]))


_OPENAI: Final = OpenAI()
_OTHERS: Final[dict[str, Dialect]] = {"ollama": Ollama(), "anthropic": Anthropic()}


def dialect(provider: str) -> Dialect:
    """The dialect of this provider; for RunPod, OpenAI."""
    return _OTHERS.get(provider, _OPENAI)
