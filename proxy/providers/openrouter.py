"""OpenRouter: OpenAI's dialect with attribution, more detailed errors, and a catalogue with limits and prices."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from proxy.call import Headers
from proxy.errors import SluiceError
from proxy.headers import value
from proxy.providers.contract import Model, Order, Request
from proxy.providers.failures import judge
from proxy.providers.openai_compatible import OpenAICompatible
from proxy.providers.reading import count
from proxy.providers.reports import Report, clean, report_in
from proxy.shapes import list_of, object_of

_TITLES: Final = (b"x-openrouter-title", b"x-title")
_NO_SUCH_MODEL: Final = {"model_not_found", "model_deprecated", "free_variant_ended", "no_endpoints", "wrong_endpoint"}
_PRICES: Final = (("input", "prompt"), ("output", "completion"), ("cached", "input_cache_read"))


class OpenRouter(OpenAICompatible):
    """openrouter.ai. Model names, `models`, `provider` and all its other parameters pass as they are."""

    name = "openrouter"
    base_url = "https://openrouter.ai/api/v1"
    usual_path = "/api/v1"
    key_variable = "OPENROUTER_API_KEY"
    key_required = True
    usage = "unasked"  # always sent; stream_options has no effect

    def __init__(self, options: Mapping[str, Any]) -> None:
        super().__init__()
        self._referer = str(options.get("referer") or "").encode()

    def request(self, order: Order) -> Request:
        """The order, attributed to Sluice unless client or config name another app."""
        request = super().request(order)
        named = [name for name, _ in request.headers]
        if not any(title in named for title in _TITLES):
            request.headers.append((b"x-openrouter-title", b"Sluice"))
        if self._referer and b"http-referer" not in named:
            request.headers.append((b"http-referer", self._referer))
        return request

    def judge(self, status: int, report: Report, headers: Headers | None = None) -> SluiceError:
        """By status, `metadata` and `availability`; the latter two say more than the status."""
        metadata, availability = object_of(report.fields.get("metadata")), object_of(report.fields.get("availability"))
        status, why = status or report.status, availability.get("code")
        if status == 402 and metadata.get("limit_source") == "openrouter_in_flight_budget":
            status = 429  # concurrent calls hold the budget; it becomes free by itself
        elif status == 403 and ("reasons" in metadata or "flagged_input" in metadata or "patterns" in metadata):
            report = replace(report, code=report.code or "content_filter")
        elif status in (400, 404) and (
            why in _NO_SUCH_MODEL or (not why and report.message.startswith("No endpoints found for "))
        ):
            report = replace(report, code="model_not_found", param="model")
        elif status == 404 and why:
            status = 502  # the model exists, but our account's settings or the route exclude every provider
        error = judge(status, replace(report, message=_in_full(report.message, metadata)), headers)
        return error if error.again == "never" else _with_retry_hints(error, report, availability, headers or [])

    def copes(self, problem: SluiceError, fields: Mapping[str, Any]) -> bool:
        """By another model, if the client names fallback models; by a shorter prompt, if it allows that."""
        if fields.get("models"):
            return True
        return problem.code == "context_length_exceeded" and problem.param == "messages" and _shortened(fields)

    def model(self, entry: Mapping[str, Any]) -> Model:
        """One entry of its catalogue: limits may be null, prices are strings in USD per token, "-1" is unknown."""
        top, pricing = object_of(entry.get("top_provider")), object_of(entry.get("pricing"))
        inputs = object_of(entry.get("architecture")).get("input_modalities")
        parameters = entry.get("supported_parameters")
        prices = {ours: price for ours, theirs in _PRICES if (price := _per_million(pricing.get(theirs))) is not None}
        return Model(
            id=entry["id"],
            context=count(entry.get("context_length")) or count(top.get("context_length")),
            output=count(top.get("max_completion_tokens")),
            inputs=tuple(map(str, inputs)) if isinstance(inputs, list) else None,
            prices=prices or None,
            created=count(entry.get("created")),
            owner=entry["id"].partition("/")[0],
            tools="tools" in parameters if isinstance(parameters, list) else None,
        )


def _shortened(fields: Mapping[str, Any]) -> bool:
    """Whether the prompt may be compressed: by the plugin, or `transforms`, its older form."""
    transforms, plugins = fields.get("transforms"), fields.get("plugins")
    named = [object_of(plugin) for plugin in list_of(plugins)]
    compressing = any(plugin.get("id") == "context-compression" and plugin.get("enabled", True) for plugin in named)
    return compressing or (isinstance(transforms, list) and "middle-out" in transforms)


def _in_full(message: str, metadata: Mapping[str, Any]) -> str:
    """The message, which may be just "Provider returned error", with the details in `metadata`."""
    raw, reasons = metadata.get("raw"), metadata.get("reasons")
    says = [message]
    if raw:
        body = raw.encode(errors="replace") if isinstance(raw, str) else orjson.dumps(raw)
        says.append(report_in(body).message)
    if isinstance(reasons, list):
        says.append(", ".join(reason for reason in reasons if isinstance(reason, str)))
    return clean(": ".join(text for text in says if text))


def _with_retry_hints(
    error: SluiceError, report: Report, availability: Mapping[str, Any], headers: Headers
) -> SluiceError:
    """The upstream's failure with what OpenRouter says about retrying."""
    if error.code == "upstream_auth_failed":
        return error
    retryable, wait = availability.get("retryable"), availability.get("retry_after")
    if "free-models-per-day" in report.message:
        retryable = False
    if isinstance(retryable, bool):
        error.again = "same" if retryable else "next"
        error.should_retry = None if retryable else False
    if error.retry_after is None and isinstance(wait, int | float) and not isinstance(wait, bool):
        error.retry_after = max(0.0, float(wait))
    elif error.retry_after is None and error.code == "upstream_rate_limited":
        error.retry_after = _until(value(headers, b"x-ratelimit-reset"))
    return error


def _until(instant: bytes | None) -> float | None:
    """Seconds until a time in Unix seconds or milliseconds."""
    if instant is None or not instant.isdigit() or len(instant) > 15:
        return None
    seconds = int(instant) / 1000 if len(instant) > 11 else int(instant)
    return max(0.0, seconds - datetime.now(UTC).timestamp())


def _per_million(price: Any) -> float | None:
    """USD per million tokens from a string of USD per token; None if it is no price."""
    try:
        dollars = float(price)
    except (TypeError, ValueError):
        return None
    return round(dollars * 1_000_000, 9) if 0 <= dollars < 1_000 else None
