"""llama.cpp's server: OpenAI's dialect, no key, and a context window that it reports."""

import re
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import orjson

from proxy.call import Headers
from proxy.errors import SluiceError
from proxy.jsonedit import put
from proxy.jsonspans import Path, find
from proxy.providers.contract import Answer, Model, Order, Reader, Request, Target
from proxy.providers.openai_compatible import OpenAICompatible, parse_answer
from proxy.providers.placing import PlacingReader
from proxy.providers.reading import count
from proxy.providers.reports import Report
from proxy.shapes import object_of
from proxy.sse import EventCutter, events, payload
from proxy.usage import is_count

_ASKED_FORMAT: Final = Path.of("text.format")
_FORMAT: Final = Path.of("response_format")
_UNASKABLE: Final = re.compile(r"Failed to parse |Unknown |(?:audio|image|video) input is not supported")
"""Prefixes of messages by which a 500 reports a bad request, as llama.cpp does for most C++ exceptions."""


class LlamaCpp(OpenAICompatible):
    """A `llama-server`, addressed with or without `/v1`; without it, `/props` reports the actual context window."""

    name = "llamacpp"
    base_url = ""  # without one Sluice starts the server itself
    usual_path = ""
    whole_by_stream = True  # it goes on decoding when the client of a whole answer leaves

    def request(self, order: Order) -> Request:
        """The order unchanged; one for /v1/responses also has its output format as `response_format`.

        The server takes `response_format` there, and silently ignores the Responses API's own `text.format`.
        """
        request = replace(super().request(order), path=_v1(order.target) + "/" + order.endpoint)
        if order.endpoint != "responses" or (wanted := _format_in(order.body)) is None:
            return request
        body = put(order.body, _FORMAT, wanted, over=False)
        return replace(request, body=body, changes=() if body is order.body else ("set response_format",))

    def reader(self, order: Order) -> Reader:
        """Whole events, unchanged; for several choices, with the usage of all of them."""
        return SummingReader(order.prompts) if order.choices > 1 else super().reader(order)

    def passing(self, order: Order) -> Reader:
        """Streams of /v1/responses get the indexes that the server leaves out."""
        return PlacingReader(order.target.model) if order.endpoint == "responses" else super().passing(order)

    def judge(self, status: int, report: Report, headers: Headers | None = None) -> SluiceError:
        """As for any; a prompt that did not fit is reported with both numbers."""
        if status == 500 and _UNASKABLE.match(report.message):
            status = 400
        error = super().judge(status, report, headers)
        asked, window = count(report.fields.get("n_prompt_tokens")), count(report.fields.get("n_ctx"))
        if error.code == "context_length_exceeded" and asked and window:
            error.message += f" ({asked} tokens asked, {window} available)"
        return error

    def catalog(self, target: Target) -> Generator[Request, Answer, Sequence[Model] | None]:
        """GET /v1/models (`meta.n_ctx_train`), then /props: the window of one slot, and the abilities of the template.

        The server silently ignores tools that its chat template does not support, even if one is required.
        """
        models = yield from super().catalog(target)
        if models is None or not _v1(target):
            return models
        answer = yield Request("/props", method="GET", headers=list(self.headers(target).items()))
        properties = _properties(answer)
        window = count(object_of(properties.get("default_generation_settings")).get("n_ctx"))
        toolless = object_of(properties.get("chat_template_caps")).get("supports_tools") is False
        tools = False if toolless else None
        return [replace(model, context=window or model.context, tools=tools) for model in models]

    def models_path(self, target: Target) -> str:
        """The path of its list of models."""
        return _v1(target) + "/models"

    def model(self, entry: Mapping[str, Any]) -> Model:
        """One entry; `meta` holds what the model was trained for, `architecture` its modalities."""
        meta, architecture = entry.get("meta"), entry.get("architecture")
        inputs = architecture.get("input_modalities") if isinstance(architecture, dict) else None
        return replace(
            super().model(entry),
            context=count(meta.get("n_ctx_train")) if isinstance(meta, dict) else None,
            inputs=tuple(map(str, inputs)) if isinstance(inputs, list) else None,
        )


def _format_in(body: bytes) -> bytes | None:
    """The `text.format` of a body for /v1/responses in the form of a chat's `response_format`; None: plain text."""
    kind = object_of(object_of(orjson.loads(body).get("text")).get("format")).get("type")
    span = find(body, _ASKED_FORMAT) if kind in ("json_schema", "json_object") else None
    if span is None:
        return None
    wanted = body[slice(*span)]
    return b'{"type":"json_schema","json_schema":' + wanted + b"}" if kind == "json_schema" else wanted


class SummingReader:
    """Whole events. The server reports usage per choice; here each report counts all choices so far.

    In a text completion a report comes with the end of its choice. In a chat it is an event of its own, and only the
    last one is passed on, at the end.
    """

    def __init__(self, prompts: int) -> None:
        self._cutter = EventCutter()
        self._prompts = prompts
        self._usage_event = b""  # held for the end
        self._reports = self._asked = self._made = 0  # reports so far, and the tokens of prompts and answers in them

    def feed(self, data: bytes) -> bytes:
        """Whole events."""
        return b"".join(map(self._event, events(self._cutter.feed(data))))

    def finish(self) -> bytes:
        """The rest, and the usage if the stream ended without `[DONE]`."""
        rest, usage = b"".join(map(self._event, events(self._cutter.finish()))), self._held()
        return rest + (b"\n\n" if rest and usage and not rest.endswith(b"\n\n") else b"") + usage

    def _event(self, event: bytes) -> bytes:
        data = payload(event) or b""
        if data.startswith(b"[DONE]"):
            return self._held() + event
        if data.find(b'"usage"') < 0:
            return event
        try:
            chunk = object_of(orjson.loads(data))
        except orjson.JSONDecodeError:
            return event
        usage = object_of(chunk.get("usage"))
        if not is_count(usage.get("completion_tokens")):
            return event
        summed = b"data: " + orjson.dumps(chunk | {"usage": self._summed(usage)}) + b"\n\n"
        if chunk.get("choices") != []:
            return summed
        self._usage_event = summed
        return b""

    def _summed(self, usage: dict[str, Any]) -> dict[str, Any]:
        """The usage of all choices so far; each choice reports the tokens of its own prompt."""
        self._made += usage["completion_tokens"]
        counts = {"completion_tokens": self._made}
        if is_count(asked := usage.get("prompt_tokens")):
            self._reports, self._asked = self._reports + 1, self._asked + asked
            prompts = round(self._asked / self._reports * self._prompts)
            counts |= {"prompt_tokens": prompts, "total_tokens": prompts + self._made}
        return usage | counts

    def _held(self) -> bytes:
        event, self._usage_event = self._usage_event, b""
        return event


def _v1(target: Target) -> str:
    return "" if target.base.endswith("/v1") else "/v1"


def _properties(answer: Answer) -> Mapping[str, Any]:
    """The content of /props; empty if the server does not offer it (no 200, or another shape)."""
    if answer.status != 200:
        return {}
    try:
        return object_of(parse_answer(answer.body))
    except SluiceError:
        return {}
