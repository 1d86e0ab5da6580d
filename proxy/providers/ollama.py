"""Ollama by its native API, since its OpenAI-compatible /v1 drops parameters and loses failures within streams."""

import re
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from proxy.call import Headers
from proxy.errors import SluiceError
from proxy.providers.completions import Chunks, TextChunks
from proxy.providers.contract import Answer, Model, Order, Provider, Reader, Request, Target
from proxy.providers.failures import judge
from proxy.providers.forwarding import forward, once
from proxy.providers.messages import written
from proxy.providers.ollama_answers import (
    OllamaReader,
    checked,
    embeddings,
    whole_chat,
    whole_text,
    without_addresses,
)
from proxy.providers.ollama_requests import Translation
from proxy.providers.reading import answer_object, count, malformed, unix_seconds
from proxy.providers.reports import report_in
from proxy.shapes import object_of, string_of

MOST_MODELS: Final = 200  # asked for one by one; further ones are listed by name only

_PATHS: Final = {"chat/completions": "/api/chat", "completions": "/api/generate", "embeddings": "/api/embed"}
_WINDOW: Final = re.compile(r"^num_ctx\s+(\d{1,9})\s*$", re.M)  # among the parameters of a Modelfile
_MODALITIES: Final = {"vision": "image", "audio": "audio"}  # Ollama's word for a capability -> ours


class Ollama(Provider):
    """An Ollama server, or ollama.com. `options`: `keep_alive` as Ollama takes it, `num_ctx` the default window."""

    name = "ollama"
    base_url = "http://127.0.0.1:11434"
    key_variable = "OLLAMA_API_KEY"
    endpoints = frozenset({"completions", "embeddings"})
    usage = "made"
    lines = True
    wants_need = True  # num_ctx, also of a model that is not listed

    def listed_as(self, model: str) -> str:
        """Ollama completes a name without a tag by `:latest`, and lists it so."""
        return model if ":" in model.rpartition("/")[2] else f"{model}:latest"

    def request(self, order: Order) -> Request:
        """POST /api/chat, /api/generate or /api/embed."""
        headers = once(order, ("ollama", order.target.key, order.target.headers), _lines)
        translation = Translation(order)
        if order.endpoint == "embeddings":
            body = translation.embed()
        elif order.endpoint == "completions":
            body = translation.generate()
        else:
            body = translation.chat()
        changes = tuple(dict.fromkeys(translation.changes))
        return Request(_PATHS[order.endpoint], written(body), headers=headers, changes=changes)

    def reader(self, order: Order) -> Reader:
        """Translates NDJSON to events."""
        return OllamaReader(order.target.model, TextChunks if order.endpoint == "completions" else Chunks)

    def whole(self, order: Order, body: bytes) -> bytes:
        """One JSON object, which must have `done: true`."""
        if order.endpoint == "embeddings":
            encoded = orjson.loads(order.body).get("encoding_format") == "base64"
            return embeddings(order.target.model, checked(body, complete=False), encoded)
        translate = whole_text if order.endpoint == "completions" else whole_chat
        return translate(order.target.model, checked(body))

    def failure(self, status: int, headers: Headers, body: bytes) -> SluiceError:
        """By status and text: `{"error": "text"}`, or an empty body where Ollama refuses the Host header (403)."""
        report = report_in(body)
        if status == 403 and not body:
            return SluiceError("upstream_auth_failed", "Ollama rejected the Host header.", again="next")
        return judge(status, replace(report, message=without_addresses(report.message)), headers)

    def catalog(self, target: Target) -> Generator[Request, Answer, Sequence[Model]]:
        """GET /api/tags, then POST /api/show for each model; if that fails, the model is listed without details."""
        answer = yield Request("/api/tags", method="GET", headers=_headers(target))
        if not 200 <= answer.status < 300:
            raise self.failure(answer.status, answer.headers, answer.body)
        listed = answer_object("Ollama", answer.body).get("models", ())
        if not isinstance(listed, list | None):
            raise malformed("Ollama")
        models: list[Model] = []
        for entry in listed or ():
            if not isinstance(entry, dict) or not isinstance(name := entry.get("model") or entry.get("name"), str):
                continue
            shown: Mapping[str, Any] = {}
            if len(models) < MOST_MODELS:
                body = orjson.dumps({"model": name})
                answer = yield Request("/api/show", body, headers=_headers(target))
                shown = _shown(answer)
            models.append(_model(name, entry, shown))
        return models


def _lines(order: Order) -> Headers:
    return forward(order, _headers(order.target), without=(b"anthropic-",))


def _headers(target: Target) -> Headers:
    """Credentials, if any: a local Ollama needs none, ollama.com always does."""
    if not target.key and urlsplit(target.base).hostname == "ollama.com":
        raise SluiceError("upstream_not_configured", "ollama.com needs a key: set OLLAMA_API_KEY.", again="next")
    key = [(b"authorization", b"Bearer " + target.key.encode())] if target.key else []
    return [(b"content-type", b"application/json"), *key]


def _model(name: str, entry: Mapping[str, Any], shown: Mapping[str, Any]) -> Model:
    """From /api/tags and /api/show. The context length is the maximum of the model, not the loaded window."""
    able = shown.get("capabilities", entry.get("capabilities"))
    able = [word for word in able if isinstance(word, str)] if isinstance(able, list) else None
    window = _WINDOW.search(string_of(shown.get("parameters")))
    extra = ({"capabilities": tuple(able)} if able is not None else {}) | (
        {"num_ctx": int(window[1])} if window else {}
    )
    inputs = None if able is None else ("text", *(_MODALITIES[word] for word in able if word in _MODALITIES))
    return Model(
        id=name,
        context=_context(shown),
        inputs=inputs,
        created=unix_seconds(entry.get("modified_at")),
        owner="library",
        tools=None if able is None else "tools" in able,
        chat=False if able is not None and "embedding" in able and "completion" not in able else None,
        extra=extra or None,
    )


def _context(shown: Mapping[str, Any]) -> int | None:
    """`<architecture>.context_length` of /api/show."""
    info = object_of(shown.get("model_info"))
    return count(info.get(f"{info.get('general.architecture')}.context_length"))


def _shown(answer: Answer) -> Mapping[str, Any]:
    """The object of /api/show; empty if the model has been removed meanwhile, or the answer is unreadable."""
    try:
        return answer_object("Ollama", answer.body) if answer.status == 200 else {}
    except SluiceError:
        return {}
