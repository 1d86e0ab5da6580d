"""Translates Anthropic's answers to OpenAI's: events, and whole messages (anthropic SDK 0.125.0, types/raw_*.py)."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from io import StringIO
from typing import Any, Final

import orjson

from proxy.providers.completions import Chunks, Json, chat_completion, tool_call, usage
from proxy.providers.failures import error_in_event
from proxy.providers.reading import TranslatingReader, answer_object, cut_short, json_text, malformed
from proxy.shapes import object_of, string_of
from proxy.sse import DONE, EventCutter, events, payload
from proxy.usage import is_count

FINISH: Final = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
"""`stop_reason` -> `finish_reason`; end_turn, stop_sequence, pause_turn and unknown ones are "stop"."""


@dataclass(slots=True)
class Block:
    """A content block that has begun: a tool call, or thinking whose signature comes at its end."""

    kind: str
    call: int = 0  # index among the tool calls
    input: Any = None  # of a tool call, from content_block_start
    argued: bool = False  # arguments of a tool call have been sent
    text: StringIO = field(default_factory=StringIO)  # thinking so far
    signature: str = ""


class AnthropicReader(TranslatingReader):
    """Reads message_start, content blocks with their deltas, message_delta and message_stop; ping is ignored."""

    def __init__(self, model: str) -> None:
        super().__init__()
        self._model = model
        self._chunks: Chunks | None = None
        self._cutter = EventCutter()
        self._blocks: dict[int, Block] = {}
        self._usage: Json = {}
        self._calls = self._thoughts = 0
        self._finished = self._closed = False

    def cut(self, data: bytes) -> Iterable[bytes]:
        """The complete events."""
        return events(self._cutter.feed(data))

    def rest(self) -> Iterable[bytes]:
        """A last event without its closing empty line."""
        return events(self._cutter.finish())

    def translate(self, piece: bytes) -> bytes:
        """OpenAI's events for one of Anthropic's."""
        if (data := _data(piece)) is None:
            return b""
        event = orjson.loads(data)
        kind = event.get("type") if isinstance(event, dict) else None
        if kind == "content_block_delta":
            return self._delta(_index(event), object_of(event.get("delta")))
        if kind == "content_block_start":
            return self._start(_index(event), object_of(event.get("content_block")))
        if kind == "content_block_stop":
            return self._stop(_index(event))
        if kind == "message_start":
            return self._open(object_of(event.get("message")))
        if kind == "message_delta":
            return self._end_turn(event)
        if kind == "message_stop":
            return self._close()
        if kind == "error" or (isinstance(event, dict) and "error" in event):
            raise error_in_event(event) or malformed("Anthropic")
        return b""

    def end(self) -> bytes:
        """A stop reason without message_stop is a complete answer too."""
        return self._close() if self._finished else b""

    def _open(self, message: Json) -> bytes:
        self._usage |= _known(message.get("usage"))
        if self._chunks is not None:
            return b""
        self._model = string_of(message.get("model")) or self._model
        self._chunks = Chunks(self._model, string_of(message.get("id")), "reasoning_content")
        return self._chunks.role()

    def _start(self, index: int, block: Json) -> bytes:
        kind = block.get("type")
        if kind == "text":
            return self._say(string_of(block.get("text")))
        if kind == "thinking":
            self._blocks[index] = Block("thinking", signature=string_of(block.get("signature")))
            return self._muse(self._blocks[index], string_of(block.get("thinking")))
        if kind == "redacted_thinking":
            return self._thought({"type": kind, "data": string_of(block.get("data"))})
        if kind != "tool_use":
            return b""
        self._blocks[index] = Block("tool_use", self._calls, block.get("input"))
        self._calls += 1
        call = tool_call(string_of(block.get("id")), string_of(block.get("name")), "", self._calls - 1)
        return self._write({"tool_calls": [call]})

    def _delta(self, index: int, delta: Json) -> bytes:
        kind = delta.get("type")
        if kind == "text_delta":
            return self._say(string_of(delta.get("text")))
        if (block := self._blocks.get(index)) is None:
            return b""
        if kind == "input_json_delta" and (piece := string_of(delta.get("partial_json"))):
            block.argued = True
            return self._arguments(block, piece)
        if kind == "thinking_delta":
            return self._muse(block, string_of(delta.get("thinking")))
        if kind == "signature_delta":
            block.signature += string_of(delta.get("signature"))
        return b""

    def _stop(self, index: int) -> bytes:
        """A tool call without arguments gets `{}`; thinking is passed on whole with its signature."""
        block = self._blocks.pop(index, None)
        if block is None:
            return b""
        if block.kind == "tool_use":
            return b"" if block.argued else self._arguments(block, json_text(object_of(block.input), "Anthropic"))
        thought = {"type": "thinking", "thinking": block.text.getvalue(), "signature": block.signature}
        return self._thought(thought) if block.signature else b""

    def _end_turn(self, event: Json) -> bytes:
        self._usage |= _known(event.get("usage"))
        reason = string_of(object_of(event.get("delta")).get("stop_reason"))
        if not reason or self._finished:
            return b""
        self._finished = True
        return self._writer().finish(FINISH.get(reason, "stop"))

    def _close(self) -> bytes:
        """Usage and `[DONE]`. Without a stop reason neither is sent: the answer was cut off."""
        if self._closed or not self._finished:
            return b""
        self._closed = True
        counts = counts_of(self._usage)
        return (self._writer().usage(counts) if counts else b"") + DONE

    def _say(self, text: str) -> bytes:
        return self._writer().content(text) if text else b""

    def _thought(self, thought: Json) -> bytes:
        """Thinking in a form that clients can send back; OpenAI's client merges lists of objects by `index`."""
        self._thoughts += 1
        return self._write({"thinking_blocks": [thought | {"index": self._thoughts - 1}]})

    def _muse(self, block: Block, text: str) -> bytes:
        block.text.write(text)
        return self._writer().reasoning(text) if text else b""

    def _arguments(self, block: Block, piece: str) -> bytes:
        return self._write({"tool_calls": [{"index": block.call, "function": {"arguments": piece}}]})

    def _write(self, delta: Json) -> bytes:
        return self._writer().delta(delta)

    def _writer(self) -> Chunks:
        if self._chunks is None:  # a compatible server that sends no message_start
            self._chunks = Chunks(self._model, "", "reasoning_content")
        return self._chunks


def whole_message(model: str, body: bytes) -> bytes:
    """A whole message as a chat completion: thinking in `reasoning_content`, with signatures in `thinking_blocks`."""
    answer = answer_object("Anthropic", body)
    if answer.get("type") != "message" and (error := error_in_event(answer)):
        raise error
    if not isinstance(content := answer.get("content"), list):
        raise malformed("Anthropic")
    if not (reason := string_of(answer.get("stop_reason"))):
        raise cut_short("Anthropic")
    choice = {"message": _message(content), "finish_reason": FINISH.get(reason, "stop")}
    name = string_of(answer.get("model")) or model
    return chat_completion(name, choice, counts_of(_known(answer.get("usage"))), string_of(answer.get("id")))


def _message(content: list[Any]) -> Json:
    blocks = [block for block in content if isinstance(block, dict)]
    if len(blocks) == 1 and blocks[0].get("type") == "text":
        return {"role": "assistant", "content": string_of(blocks[0].get("text"))}
    said = "".join(string_of(block.get("text")) for block in blocks if block.get("type") == "text")
    thoughts = [block for block in blocks if block.get("type") in ("thinking", "redacted_thinking")]
    calls = [
        tool_call(
            string_of(block.get("id")),
            string_of(block.get("name")),
            json_text(object_of(block.get("input")), "Anthropic"),
        )
        for block in blocks
        if block.get("type") == "tool_use"
    ]
    message: Json = {"role": "assistant", "content": said if said or not calls else None}
    if mused := "".join(string_of(block.get("thinking")) for block in thoughts):
        message["reasoning_content"] = mused
    if thoughts:
        message["thinking_blocks"] = thoughts
    return message | ({"tool_calls": calls} if calls else {})


def counts_of(counts: Json) -> Json | None:
    """Token counts.

    Anthropic's `input_tokens` excludes tokens read from or written to its prompt cache; OpenAI's includes them.
    """
    if "input_tokens" not in counts and "output_tokens" not in counts:
        return None
    cached = counts.get("cache_read_input_tokens")
    prompt = counts.get("input_tokens", 0) + (cached or 0) + counts.get("cache_creation_input_tokens", 0)
    return usage(prompt, counts.get("output_tokens", 0), cached, counts.get("thinking_tokens"))


def _known(counts: Any) -> Json:
    """The counts that are numbers; message_delta repeats some of message_start's as null."""
    known = object_of(counts)
    if details := known.get("output_tokens_details"):
        known = known | object_of(details)
    return {name: value for name, value in known.items() if is_count(value)}


def _data(piece: bytes) -> bytes | None:
    """The data of an event, with a fast path for the two lines that Anthropic sends."""
    if piece.startswith(b"event: ") and piece.count(b"\n") == 3 and piece.endswith(b"\n\n") and piece.find(b"\r") < 0:
        _, _, data = piece[:-2].partition(b"\n")
        if data.startswith(b"data: "):
            return data[6:]
    return payload(piece)


def _index(event: Json) -> int:
    index = event.get("index")
    return index if isinstance(index, int) else 0
