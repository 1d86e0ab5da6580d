"""OpenAI-compatible providers described by a table: address, key variable and a few differences."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import orjson

from proxy.errors import SluiceError
from proxy.jsonedit import compile_remove, compile_rename, put
from proxy.jsonspans import Path
from proxy.providers.contract import Order, Reader, Request
from proxy.providers.fitting import ANSWERS, CALLS, ECHOED, THOUGHTS, Fitting
from proxy.providers.messages import fields_of, written
from proxy.providers.numbering import NumberingReader
from proxy.providers.openai_compatible import OpenAICompatible
from proxy.providers.pieces import joined, joined_events
from proxy.providers.prefilling import OPEN, PREFIX, leave_open
from proxy.sse import EventCutter, events, payload

_MESSAGES: Final = Path.of("messages")


@dataclass(frozen=True, slots=True)
class Row:
    """One provider. The key is required if `key_variable` is set and the address is the provider's own."""

    name: str
    base_url: str = ""
    key_variable: str = ""
    usual_path: str = "/v1"
    usage: Literal["asked", "made", "unasked"] = "asked"
    rename: Mapping[str, str] = field(default_factory=dict)  # parameters: OpenAI's -> theirs
    drop: tuple[str, ...] = ()  # parameters that it refuses
    usage_in: str = ""  # field of its chunks with the usage, where OpenAI's may be missing
    fit: Fitting | None = None  # what it refuses in messages
    number: bool = False  # its streams lack the index of tool calls, and their finish reason
    back: tuple[tuple[re.Pattern[bytes], bytes], ...] = ()  # replacements in answers
    pieces: bool = False  # content may come in pieces
    prefill: Mapping[str, bool] = field(default_factory=dict)  # settings that make it continue an assistant message
    echoes: bool = False  # its answer then repeats that message first


ROWS: Final = (
    Row("openai", "https://api.openai.com/v1", "OPENAI_API_KEY"),
    Row(
        "gemini",
        "https://generativelanguage.googleapis.com/v1beta/openai",
        "GEMINI_API_KEY",
        "/v1beta/openai",
        drop=("store", "metadata", "seed", "frequency_penalty", "presence_penalty"),  # each a 400
        fit=Fitting(THOUGHTS | ANSWERS | {"reasoning"}),
        number=True,
    ),
    Row(
        "groq",
        "https://api.groq.com/openai/v1",
        "GROQ_API_KEY",
        "/openai/v1",
        usage="made",
        usage_in="x_groq",  # first and last chunk: {"id", "usage"?, "error"?}
        fit=Fitting(THOUGHTS, calls=CALLS),
    ),
    Row(
        "mistral",
        "https://api.mistral.ai/v1",
        "MISTRAL_API_KEY",
        usage="unasked",
        rename={"seed": "random_seed", "max_completion_tokens": "max_tokens"},
        drop=("user", "logit_bias", "stream_options", "store"),  # each a 422
        fit=Fitting(ECHOED, calls=CALLS | {"index"}, developer=False, ids=re.compile("[a-zA-Z0-9]{9}")),
        back=((re.compile(rb'("finish_reason"\s*:\s*)"model_length"'), rb'\1"length"'),),
        pieces=True,
        prefill=PREFIX,
        echoes=True,
    ),
    Row(
        "deepseek",
        "https://api.deepseek.com",
        "DEEPSEEK_API_KEY",
        usual_path="",
        rename={"max_completion_tokens": "max_tokens"},
        fit=Fitting(developer=False),
        prefill=PREFIX,
    ),
    Row(
        "together",
        "https://api.together.xyz/v1",
        "TOGETHER_API_KEY",
        usage="unasked",
        rename={"max_completion_tokens": "max_tokens"},
        back=((re.compile(rb'("finish_reason"\s*:\s*)"eos"'), rb'\1"stop"'),),
    ),
    Row(
        "fireworks",
        "https://api.fireworks.ai/inference/v1",
        "FIREWORKS_API_KEY",
        "/inference/v1",
        usage="unasked",
        fit=Fitting(THOUGHTS - {"reasoning_content"} | {"reasoning"}),
    ),
    Row("xai", "https://api.x.ai/v1", "XAI_API_KEY"),
    Row("vllm", "http://127.0.0.1:8000/v1", prefill=OPEN),
    Row("lmstudio", "http://127.0.0.1:1234/v1", fit=Fitting(developer=False)),
)


def of_row(row: Row) -> OpenAICompatible:
    """The provider of a row; one that has only an address of its own needs no translation."""
    plain = row == Row(row.name, row.base_url, row.key_variable, row.usual_path)
    return Addressed(row) if plain else Tabled(row)


class Addressed(OpenAICompatible):
    """An OpenAI-compatible provider with the name and address of its row."""

    def __init__(self, row: Row) -> None:
        self.name = row.name
        self.base_url = row.base_url
        self.usual_path = row.usual_path
        self.key_variable = row.key_variable


class Tabled(Addressed):
    """An OpenAI-compatible provider with the differences in its row."""

    def __init__(self, row: Row) -> None:
        super().__init__(row)
        self.usage = row.usage
        self.echoes = row.echoes
        self._row = row
        self._edits = [
            (f"rename {ours}->{theirs}", compile_rename(ours, theirs)) for ours, theirs in row.rename.items()
        ] + [(f"drop {name}", compile_remove(name)) for name in row.drop]

    def request(self, order: Order) -> Request:
        """The order with parameters renamed and dropped and messages adapted, each listed in `changes`."""
        body, changes = self._fitted(order)
        body, said = leave_open(order, body, self._row.prefill)
        changes += said
        for change, edit in self._edits:
            if (edited := edit(body)) is not body:
                body = edited
                changes.append(change)
        if not changes:
            return super().request(order)
        return replace(super().request(order.with_body(body)), changes=tuple(changes))

    def _fitted(self, order: Order) -> tuple[bytes, list[str]]:
        """The body with its messages as the provider accepts them; unchanged if nothing is refused."""
        if self._row.fit is None or order.endpoint != "chat/completions":
            return order.body, []
        given = fields_of(order).get("messages")
        messages, changes = self._row.fit.fitted(given) if isinstance(given, list) else (given, [])
        return (put(order.body, _MESSAGES, written(messages)) if changes else order.body), changes

    def reader(self, order: Order) -> Reader:
        """Whole events, unchanged unless the row names differences in them."""
        row = self._row
        if row.number:
            return NumberingReader()
        return OddReader(row) if row.usage_in or row.back else super().reader(order)

    def whole(self, order: Order, body: bytes) -> bytes:
        """The same bytes but for the replacements of the row. Raises as for any OpenAI-compatible answer."""
        answer = exchanged(self._row, super().whole(order, body))
        return joined(answer) if self._row.pieces else answer


def exchanged(row: Row, answer: bytes) -> bytes:
    """The answer, or its events, in OpenAI's terms."""
    for theirs, ours in row.back:
        answer = theirs.sub(ours, answer)
    return answer


class OddReader:
    """Whole events with the replacements of the row, and a usage event if the upstream reports usage elsewhere."""

    def __init__(self, row: Row) -> None:
        self._row = row
        self._cutter = EventCutter()
        self._mark = orjson.dumps(row.usage_in)
        self._chunk: dict[str, Any] = {}  # the chunk that held the usage
        self._usage_sent = not row.usage_in  # the usage event was sent

    def feed(self, data: bytes) -> bytes:
        """Whole events. Raises upstream_error if the special field reports one."""
        return self._seen(self._cutter.feed(data))

    def finish(self) -> bytes:
        """The rest, and the usage event if the stream ended without `[DONE]`."""
        rest = self._seen(self._cutter.finish())
        if self._usage_sent or not self._chunk:
            return rest
        return rest + (b"\n\n" if rest and not rest.endswith((b"\n\n", b"\r\n\r\n")) else b"") + self._usage_event()

    def _seen(self, batch: bytes) -> bytes:
        batch = exchanged(self._row, batch)
        if self._row.pieces:
            batch = joined_events(batch)
        if self._usage_sent or all(batch.find(word) < 0 for word in (self._mark, b'"usage"', b"[DONE]")):
            return batch
        return b"".join(map(self._with_usage, events(batch)))

    def _with_usage(self, event: bytes) -> bytes:
        data = payload(event) or b""
        if data.startswith(b"[DONE]"):
            return (self._usage_event() if self._chunk and not self._usage_sent else b"") + event
        try:
            chunk = orjson.loads(data)
        except orjson.JSONDecodeError:
            return event
        if isinstance(chunk, dict):
            self._note(chunk)
        return event

    def _note(self, chunk: dict[str, Any]) -> None:
        if chunk.get("usage"):
            self._usage_sent = True
        hidden = chunk.get(self._row.usage_in)
        if not isinstance(hidden, dict):
            return
        if hidden.get("error"):
            raise SluiceError("upstream_error", "The upstream ended its answer with an error.", again="same")
        if isinstance(hidden.get("usage"), dict):
            self._chunk = chunk

    def _usage_event(self) -> bytes:
        self._usage_sent = True
        head = {name: self._chunk[name] for name in ("id", "object", "created", "model") if name in self._chunk}
        usage = self._chunk[self._row.usage_in]["usage"]
        return b"data: " + orjson.dumps(head | {"choices": [], "usage": usage}) + b"\n\n"
