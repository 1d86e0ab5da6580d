"""Writes answers in OpenAI's form, for providers that translate: whole, or as events of a stream."""

from collections.abc import Sequence
from time import time
from typing import Any, Final
from uuid import uuid4

import orjson

Json = dict[str, Any]

_EMPTY_CHOICES: Final = b'"choices":[],"usage":'


def new_id(prefix: str) -> str:
    """A unique id: "chatcmpl-…"."""
    return f"{prefix}{uuid4().hex}"


def usage(prompt: int, completion: int, cached: int | None = None, reasoning: int | None = None) -> Json:
    """OpenAI's token counts; details only if known."""
    counts: Json = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
    if cached is not None:
        counts["prompt_tokens_details"] = {"cached_tokens": cached}
    if reasoning is not None:
        counts["completion_tokens_details"] = {"reasoning_tokens": reasoning}
    return counts


def tool_call(id: str, name: str, arguments: str, index: int | None = None) -> Json:
    """One tool call; in a stream with its index."""
    place = {} if index is None else {"index": index}
    return place | {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def chat_completion(model: str, choice: Json, counts: Json | None, id: str = "") -> bytes:
    """A whole chat completion with one choice: {"message", "finish_reason"}. Without counts it has no `usage`."""
    return _whole("chat.completion", id or new_id("chatcmpl-"), model, choice, counts)


def text_completion(model: str, choice: Json, counts: Json | None) -> bytes:
    """A whole legacy completion with one choice: {"text", "finish_reason"}."""
    return _whole("text_completion", new_id("cmpl-"), model, choice, counts)


def _whole(kind: str, id: str, model: str, choice: Json, counts: Json | None) -> bytes:
    answer = {"id": id, "object": kind, "created": int(time()), "model": model}
    choices = [{"index": 0, "logprobs": None} | choice]
    return orjson.dumps(answer | {"choices": choices} | ({"usage": counts} if counts else {}))


class Chunks:
    """Writes the events of one streamed chat completion; everything but the text is serialized once."""

    _object = "chat.completion.chunk"
    _prefix = "chatcmpl-"

    def __init__(self, model: str, id: str = "", thoughts: str = "reasoning") -> None:
        frame = {"id": id or new_id(self._prefix), "object": self._object, "created": int(time()), "model": model}
        self._head = b"data: " + orjson.dumps(frame)[:-1] + b","
        self._choice = self._head + b'"choices":[{"index":0,"delta":'
        self._content = self._choice + b'{"content":'
        self._reasoning = self._choice + b"{" + orjson.dumps(thoughts) + b":"
        self._going = b',"finish_reason":null}]}\n\n'
        self._text_going = b"}" + self._going

    def role(self) -> bytes:
        """The first event, with the role."""
        return self.delta({"role": "assistant", "content": ""})

    def content(self, text: str) -> bytes:
        """Text of the answer. Lone surrogates cannot occur: the text comes from parsed JSON."""
        return self._content + orjson.dumps(text) + self._text_going

    def reasoning(self, text: str) -> bytes:
        """Text of the reasoning, in the field named by `thoughts`: OpenAI itself has none."""
        return self._reasoning + orjson.dumps(text) + self._text_going

    def delta(self, delta: Json, logprobs: Sequence[Json] | None = None) -> bytes:
        """Any other piece, with the log probabilities of its tokens."""
        known = b"" if logprobs is None else b',"logprobs":' + orjson.dumps({"content": logprobs, "refusal": None})
        return self._choice + orjson.dumps(delta) + known + self._going

    def finish(self, reason: str) -> bytes:
        """The event with the finish reason."""
        return self._choice + b'{},"finish_reason":' + orjson.dumps(reason) + b"}]}\n\n"

    def usage(self, counts: Json) -> bytes:
        """The last event: the token counts."""
        return self._head + _EMPTY_CHOICES + orjson.dumps(counts) + b"}\n\n"


class TextChunks(Chunks):
    """The same for a legacy completion, which has neither roles nor reasoning."""

    _object = "text_completion"
    _prefix = "cmpl-"

    def __init__(self, model: str) -> None:
        super().__init__(model)
        self._choice = self._head + b'"choices":[{"index":0,"logprobs":null,"text":'

    def role(self) -> bytes:
        """Nothing: a text completion has no role."""
        return b""

    def content(self, text: str) -> bytes:
        """Text of the answer."""
        return self._choice + orjson.dumps(text) + self._going

    def reasoning(self, text: str) -> bytes:
        """Nothing: a text completion has no field for reasoning."""
        return b""

    def finish(self, reason: str) -> bytes:
        """The event with the finish reason."""
        return self._choice + b'"","finish_reason":' + orjson.dumps(reason) + b"}]}\n\n"
