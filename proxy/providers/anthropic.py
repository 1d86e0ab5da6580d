"""Anthropic's Messages API."""

from collections.abc import Generator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

from proxy.call import Headers
from proxy.errors import SluiceError
from proxy.providers.anthropic_answers import AnthropicReader, whole_message
from proxy.providers.anthropic_requests import LEVELS, Translation
from proxy.providers.contract import Answer, Model, Order, Provider, Reader, Request, Target
from proxy.providers.failures import judge
from proxy.providers.forwarding import forward, once
from proxy.providers.messages import written
from proxy.providers.reading import answer_object, count, malformed, unix_seconds
from proxy.providers.reports import report_in
from proxy.shapes import object_of

API_VERSION: Final = "2023-06-01"
MOST_PAGES: Final = 20  # of the list of models, 1000 each


class Anthropic(Provider):
    """api.anthropic.com, or a server that speaks its Messages API.

    `options`: `api_version` is sent as `anthropic-version`; `thinking`, "adaptive" or "enabled", is how
    `reasoning_effort` is translated where the catalogue does not say what the model supports.
    """

    name = "anthropic"
    base_url = "https://api.anthropic.com/v1"
    usual_path = "/v1"
    key_variable = "ANTHROPIC_API_KEY"
    key_required = True
    endpoints = frozenset[str]()
    usage = "made"

    def request(self, order: Order) -> Request:
        """POST /messages; the client's `anthropic-beta` passes."""
        version = _version(order.target)
        translation = Translation(order, version)
        body = written(translation.messages())
        headers = once(order, ("anthropic", version, order.target.key, order.target.headers), _lines)
        return Request("/messages", body, headers=headers, changes=tuple(dict.fromkeys(translation.changes)))

    def reader(self, order: Order) -> Reader:
        """Translates Anthropic's events to OpenAI's."""
        return AnthropicReader(order.target.model)

    def whole(self, order: Order, body: bytes) -> bytes:
        """Translates a message to a chat completion."""
        return whole_message(order.target.model, body)

    def failure(self, status: int, headers: Headers, body: bytes) -> SluiceError:
        """By status and `{"type": "error", "error": {"type", "message"}}`."""
        report = report_in(body)
        if status == 400 and "credit balance is too low" in report.message:  # the operator's billing
            status = 402
        return judge(status, report, headers)

    def catalog(self, target: Target) -> Generator[Request, Answer, Sequence[Model]]:
        """GET /models, page by page."""
        models: list[Model] = []
        path = "/models?limit=1000"
        for _ in range(MOST_PAGES):
            answer = yield Request(path, method="GET", headers=_headers(target))
            if not 200 <= answer.status < 300:
                raise self.failure(answer.status, answer.headers, answer.body)
            page = answer_object("Anthropic", answer.body)
            if not isinstance(entries := page.get("data"), list):
                raise malformed("Anthropic")
            models += [
                _model(entry) for entry in entries if isinstance(entry, dict) and isinstance(entry.get("id"), str)
            ]
            last = page.get("last_id")
            if page.get("has_more") is not True or not isinstance(last, str):
                break
            path = f"/models?limit=1000&after_id={quote(last, safe='')}"
        return models


def _version(target: Target) -> str:
    return str(target.options.get("api_version") or API_VERSION)


def _lines(order: Order) -> Headers:
    return forward(order, _headers(order.target), without=(b"anthropic-dangerous-",))


def _headers(target: Target) -> Headers:
    key = [(b"x-api-key", target.key.encode())] if target.key else []
    version = (b"anthropic-version", _version(target).encode())
    return [(b"content-type", b"application/json"), version, *key]


def _model(entry: Mapping[str, Any]) -> Model:
    """One entry (types/model_info.py): limits, and capabilities where the API reports them."""
    able = object_of(entry.get("capabilities"))
    attached = [ours for theirs, ours in (("image_input", "image"), ("pdf_input", "file")) if _supported(able, theirs)]
    return Model(
        id=entry["id"],
        context=count(entry.get("max_input_tokens")),
        output=count(entry.get("max_tokens")),
        inputs=("text", *attached) if able else None,
        created=unix_seconds(entry.get("created_at")),
        owner="anthropic",
        extra=_thinking(_of(able, "thinking", "types"), _of(able, "effort")),
    )


def _thinking(types: Mapping[str, Any], effort: Mapping[str, Any]) -> dict[str, Any] | None:
    """How a model thinks (None: it cannot) and how much, how it is told not to, and whether it takes sampling."""
    if not types:
        return None
    styles = [style for style in ("adaptive", "enabled") if _supported(types, style)]
    found: dict[str, Any] = {"thinking": styles[0] if styles else None}
    if "disabled" in types:  # older lists lack this
        found["off"] = next((style for style in ("disabled", "between_tools") if _supported(types, style)), None)
    if efforts := tuple(level for level in LEVELS if _supported(effort, level)):
        found["efforts"] = efforts
    if styles == ["adaptive"]:  # from Claude Opus 4.7 on
        found["sampling"] = False
    return found


def _of(fields: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    for name in path:
        fields = object_of(fields.get(name))
    return fields


def _supported(able: Mapping[str, Any], name: str) -> bool:
    return _of(able, name).get("supported") is True
