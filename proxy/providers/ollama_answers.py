"""Translates Ollama's answers to OpenAI's: NDJSON streams, whole chats, legacy completions and embeddings."""

import re
from array import array
from base64 import b64encode
from collections.abc import Iterable
from sys import byteorder
from typing import Any, Final

import orjson

from proxy.errors import SluiceError
from proxy.providers.completions import (
    Chunks,
    Json,
    chat_completion,
    new_id,
    text_completion,
    tool_call,
    usage,
)
from proxy.providers.reading import LineCutter, TranslatingReader, answer_object, cut_short, json_text, malformed
from proxy.providers.reports import report_of
from proxy.shapes import list_of, string_of
from proxy.sse import DONE
from proxy.usage import is_count

_ADDRESS: Final = re.compile(r"https?://[^\s\"']+|\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?")
FINISH: Final = {"length": "length"}
"""`done_reason` -> `finish_reason`; stop, load, unload and a missing one (older servers) are "stop"."""


class OllamaReader(TranslatingReader):
    """Reads /api/chat and /api/generate: one JSON object per line; complete only with `done: true`."""

    def __init__(self, model: str, chunks: type[Chunks] = Chunks) -> None:
        super().__init__()
        self._model = model
        self._kind = chunks
        self._chunks: Chunks | None = None
        self._lines = LineCutter()
        self._calls = 0
        self._done = False

    def cut(self, data: bytes) -> Iterable[bytes]:
        """The complete lines."""
        return self._lines.feed(data)

    def rest(self) -> Iterable[bytes]:
        """A last line without its newline."""
        return self._lines.finish()

    def translate(self, piece: bytes) -> bytes:
        """The events for one line."""
        line = orjson.loads(piece)
        if not isinstance(line, dict):
            raise ValueError("a line that is no object")
        if "error" in line:
            raise error_in(line)
        if self._done:
            return b""
        chunks, opening = self._chunks, b""
        if chunks is None:
            chunks = self._chunks = self._kind(string_of(line.get("model")) or self._model)
            opening = chunks.role()
        return opening + self._said(line, chunks) + (self._closing(line, chunks) if line.get("done") else b"")

    def _said(self, line: Json, chunks: Chunks) -> bytes:
        message = _message(line)
        events = b""
        if thought := string_of(message.get("thinking")):
            events += chunks.reasoning(thought)
        said = string_of(message.get("content"))
        if probabilities := line.get("logprobs"):
            events += chunks.delta({"content": said}, _logprobs(probabilities))
        elif said:
            events += chunks.content(said)
        if calls := message.get("tool_calls"):
            translated = _calls(calls, self._calls)
            self._calls += len(translated)
            events += chunks.delta({"tool_calls": translated})
        return events

    def _closing(self, line: Json, chunks: Chunks) -> bytes:
        self._done = True
        counts = counts_of(line)
        reason = finish_reason(line, called=self._calls > 0)
        return chunks.finish(reason) + (chunks.usage(counts) if counts else b"") + DONE


def error_in(line: Json) -> SluiceError:
    """`{"error": "text"}` in a stream or in a 200 answer."""
    report = report_of(line)
    said = f": {without_addresses(report.message)}" if report and report.message else "."
    return SluiceError("upstream_error", f"Ollama failed while it answered{said}", again="next")


def without_addresses(message: str) -> str:
    """Ollama's message without the loopback address of its runner, which it often contains."""
    return _ADDRESS.sub("…", message)


def finish_reason(line: Json, called: bool) -> str:
    """OpenAI's finish reason; Ollama says "stop" after tool calls too."""
    reason = FINISH.get(string_of(line.get("done_reason")), "stop")
    return "tool_calls" if called and reason == "stop" else reason


def counts_of(line: Json) -> Json | None:
    """Token counts of the last line; None if it has none.

    Go omits zero counts (`omitempty`), so beside a present count a missing one was zero: a prompt entirely in Ollama's
    cache is not evaluated and has no `prompt_eval_count`. Both missing: unknown.
    """
    if "prompt_eval_count" not in line and "eval_count" not in line:
        return None
    prompt, completion = line.get("prompt_eval_count", 0), line.get("eval_count", 0)
    return usage(prompt, completion) if is_count(prompt) and is_count(completion) else None


def whole_chat(model: str, answer: Json) -> bytes:
    """A whole answer of /api/chat."""
    message = _message(answer)
    calls = [_without_index(call) for call in _calls(message.get("tool_calls") or [], 0)]
    said = string_of(message.get("content"))
    translated: Json = {"role": "assistant", "content": said if said or not calls else None}
    if thought := string_of(message.get("thinking")):
        translated["reasoning"] = thought
    if calls:
        translated["tool_calls"] = calls
    choice = {"message": translated, "finish_reason": finish_reason(answer, called=bool(calls))}
    if probabilities := answer.get("logprobs"):
        choice["logprobs"] = {"content": _logprobs(probabilities), "refusal": None}
    return chat_completion(string_of(answer.get("model")) or model, choice, counts_of(answer))


def whole_text(model: str, answer: Json) -> bytes:
    """A whole answer of /api/generate."""
    choice = {"text": string_of(answer.get("response")), "finish_reason": finish_reason(answer, called=False)}
    return text_completion(string_of(answer.get("model")) or model, choice, counts_of(answer))


def embeddings(model: str, answer: Json, encoded: bool) -> bytes:
    """An answer of /api/embed; `encoded`: vectors as base64 of little-endian 32-bit floats."""
    vectors = answer.get("embeddings")
    if not isinstance(vectors, list) or not all(isinstance(vector, list) for vector in vectors):
        raise malformed("Ollama")
    data = [
        {"object": "embedding", "index": index, "embedding": _packed(vector) if encoded else vector}
        for index, vector in enumerate(vectors)
    ]
    found: Json = {"object": "list", "data": data, "model": string_of(answer.get("model")) or model}
    if is_count(count := answer.get("prompt_eval_count")):
        found["usage"] = {"prompt_tokens": count, "total_tokens": count}
    return orjson.dumps(found)


def checked(body: bytes, complete: bool = True) -> Json:
    """A whole 200 answer as an object. `complete`: it must have `done: true`."""
    answer = answer_object("Ollama", body)
    if "error" in answer:
        raise error_in(answer)
    if complete and answer.get("done") is not True:
        raise cut_short("Ollama")
    return answer


def _message(line: Json) -> Json:
    """The message of a chat line; the same from the fields of a generate line."""
    message = line.get("message")
    return message if isinstance(message, dict) else {"content": line.get("response"), "thinking": line.get("thinking")}


def _calls(calls: Any, first: int) -> list[Json]:
    """Tool calls, which come whole, with the index, id and JSON text that OpenAI's clients expect."""
    found: list[Json] = []
    for call in list_of(calls):
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not (name := string_of(function.get("name"))):
            continue
        arguments = function.get("arguments")
        written = arguments if isinstance(arguments, str) else json_text(arguments or {}, "Ollama")
        id = string_of(call.get("id")) or new_id("call_")  # older servers send none
        found.append(tool_call(id, name, written, first + len(found)))
    return found


def _without_index(call: Json) -> Json:
    return {name: value for name, value in call.items() if name != "index"}


def _logprobs(probabilities: Any) -> list[Json]:
    """Ollama's log probabilities equal OpenAI's, except for fields that Go omits if empty."""
    found = [entry for entry in list_of(probabilities) if isinstance(entry, dict)]
    return [{"bytes": None, "top_logprobs": []} | entry for entry in found]


def _packed(vector: list[Any]) -> str:
    try:
        numbers = array("f", vector)
    except (TypeError, OverflowError):
        raise malformed("Ollama") from None
    if byteorder == "big":
        numbers.byteswap()
    return b64encode(numbers.tobytes()).decode()
