from time import perf_counter, time
from typing import Any

import orjson
import pytest

from proxy.errors import SluiceError
from proxy.providers.failures import error_in_event
from proxy.providers.registry import provider
from tests.doubles.openrouter import OpenRouterDouble
from tests.doubles.server import Double
from tests.doubles.wire import Answer, Received, sse, stream_answer
from tests.providers.targets import json, listed, order
from tests.running import sluice

OPENROUTER = provider("openrouter", {})
GPT4 = {
    "id": "openai/gpt-4",
    "created": 1692901234,
    "context_length": 8192,
    "architecture": {"input_modalities": ["text", "image"], "output_modalities": ["text"]},
    "pricing": {"prompt": "0.00003", "completion": "0.00006", "request": "0", "input_cache_read": "0.0000000375"},
    "top_provider": {"context_length": 8192, "max_completion_tokens": 4096, "is_moderated": True},
    "supported_parameters": ["temperature", "tools"],
}


def failure(status: int, error: dict[str, Any], *headers: tuple[bytes, bytes]) -> SluiceError:
    return OPENROUTER.failure(status, list(headers), orjson.dumps({"error": {"code": status, "message": "x"} | error}))


@pytest.mark.parametrize(
    ("client", "options", "attribution"),
    [
        ([], {}, {b"x-openrouter-title": b"Sluice"}),
        (
            [],
            {"referer": "https://me.example"},
            {b"x-openrouter-title": b"Sluice", b"http-referer": b"https://me.example"},
        ),
        ([(b"x-title", b"Mine")], {}, {b"x-title": b"Mine"}),
        (
            [(b"x-openrouter-title", b"Mine"), (b"http-referer", b"https://app.example")],
            {"referer": "https://me.example"},
            {b"x-openrouter-title": b"Mine", b"http-referer": b"https://app.example"},
        ),
    ],
)
def test_calls_are_attributed_unless_they_say_otherwise(
    client: list[tuple[bytes, bytes]], options: dict[str, str], attribution: dict[bytes, bytes]
) -> None:
    at = provider("openrouter", options)
    headers = dict(at.request(order(at, headers=client)).headers)
    named = (b"x-openrouter-title", b"x-title", b"http-referer")
    assert {name: headers[name] for name in named if name in headers} == attribution


def test_names_preferences_and_fallbacks_pass_untouched() -> None:
    body = b'{"model":"a/b:free","models":["c/d:nitro"],"provider":{"sort":"price"},"plugins":[{"id":"web"}]}'
    request = OPENROUTER.request(order(OPENROUTER, body))
    assert (request.path, request.body) == ("/chat/completions", body)


@pytest.mark.parametrize(
    ("status", "error", "outcome"),
    [
        (400, {}, ("client_invalid_request", 400, "never")),
        (400, {"metadata": {"error_type": "context_length_exceeded"}}, ("context_length_exceeded", 400, "never")),
        (400, {"availability": {"code": "model_not_found", "retryable": False}}, ("model_not_found", 400, "never")),
        (
            400,
            {"message": "Provider returned error", "metadata": {"raw": '{"error":{"message":"prompt is too long"}}'}},
            ("context_length_exceeded", 400, "never"),
        ),
        (401, {}, ("upstream_auth_failed", 502, "next")),
        (402, {}, ("upstream_auth_failed", 502, "next")),
        (402, {"metadata": {"limit_source": "openrouter_in_flight_budget"}}, ("upstream_rate_limited", 429, "same")),
        (403, {}, ("upstream_auth_failed", 502, "next")),
        (403, {"metadata": {"reasons": ["violence"], "flagged_input": "…"}}, ("content_filter", 403, "never")),
        (403, {"metadata": {"patterns": ["secret-pattern"]}}, ("content_filter", 403, "never")),
        (404, {"message": "No endpoints found for a/b."}, ("model_not_found", 404, "never")),
        (404, {"message": "No endpoints found matching your data policy."}, ("upstream_error", 502, "next")),
        (404, {"availability": {"code": "no_endpoints", "retryable": False}}, ("model_not_found", 404, "never")),
        (404, {"availability": {"code": "privacy_restricted", "retryable": False}}, ("upstream_error", 502, "next")),
        (
            404,
            {
                "message": "No endpoints found for a/b matching your data policy (Free model publication).",
                "availability": {"code": "privacy_restricted", "retryable": False},
            },
            ("upstream_error", 502, "next"),
        ),
        (408, {}, ("upstream_timeout", 504, "same")),
        (413, {}, ("client_too_large", 413, "never")),
        (422, {}, ("client_invalid_request", 422, "never")),
        (429, {}, ("upstream_rate_limited", 429, "same")),
        (429, {"message": "Rate limit exceeded: free-models-per-day"}, ("upstream_rate_limited", 429, "next")),
        (
            429,
            {"availability": {"code": "capacity_exhausted", "retryable": True}},
            ("upstream_rate_limited", 429, "same"),
        ),
        (500, {}, ("upstream_error", 502, "same")),
        (502, {"metadata": {"provider_name": "P", "raw": "overloaded"}}, ("upstream_error", 502, "same")),
        (
            503,
            {"availability": {"code": "temporarily_unavailable", "retryable": True}},
            ("upstream_overloaded", 503, "same"),
        ),
        (
            503,
            {"availability": {"code": "region_restricted", "retryable": False}},
            ("upstream_overloaded", 503, "next"),
        ),
        (524, {}, ("upstream_timeout", 504, "same")),
        (529, {}, ("upstream_overloaded", 503, "same")),
    ],
)
def test_its_table_of_errors(status: int, error: dict[str, Any], outcome: tuple[str, int, str]) -> None:
    found = failure(status, error)
    assert (found.code, found.status, found.again) == outcome


def test_moderation_tells_its_reasons_and_guardrails_not_their_patterns() -> None:
    assert "violence, hate" in failure(403, {"metadata": {"reasons": ["violence", "hate"]}}).message
    assert "secret" not in failure(403, {"metadata": {"patterns": ["secret-pattern"]}}).message


@pytest.mark.parametrize("raw", ["it broke", '{"error":{"message":"it broke"}}', {"error": {"message": "it broke"}}])
def test_the_message_of_the_provider_behind_it_is_shown(raw: object) -> None:
    error = failure(502, {"message": "Provider returned error", "metadata": {"provider_name": "P", "raw": raw}})
    assert error.message.endswith("Provider returned error: it broke")


@pytest.mark.parametrize(
    ("error", "headers", "least", "most"),
    [
        ({"availability": {"retryable": True, "retry_after": 12}}, [], 12, 12),
        ({"availability": {"retry_after": 12}}, [(b"retry-after", b"3")], 3, 3),
        ({}, [(b"x-ratelimit-reset", b"%d" % ((time() + 86400) * 1000))], 80000, 86400),
        ({}, [(b"x-ratelimit-reset", b"%d" % (time() + 86400))], 80000, 86400),
        ({}, [(b"x-ratelimit-reset", b"soon")], None, None),
    ],
)
def test_the_wait_is_found_where_it_is_said(
    error: dict[str, Any], headers: list[tuple[bytes, bytes]], least: float | None, most: float | None
) -> None:
    wait = failure(429, error, *headers).retry_after
    assert wait is None if least is None or most is None else wait is not None and least <= wait <= most


@pytest.mark.parametrize("code", [429, "rate_limit_exceeded"])
def test_errors_in_mid_stream_come_with_numbers_and_words(code: object) -> None:
    event = {
        "id": "gen-1",
        "error": {"code": code, "message": "Rate limit exceeded", "metadata": {"error_type": "rate_limit_exceeded"}},
        "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}],
    }
    error = error_in_event(event)
    assert error is not None and error.code == "upstream_rate_limited"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"error": {"code": 502, "message": "x"}, "user_id": "u"}, "upstream_error"),
        (
            {
                "choices": [
                    {
                        "message": {"role": "assistant", "content": "partial…"},
                        "finish_reason": "error",
                        "error": {"code": 502, "message": "x", "metadata": {"error_type": "provider_unavailable"}},
                    }
                ]
            },
            "upstream_error",
        ),
        ({"error": {"code": 403, "message": "x", "metadata": {"reasons": ["hate"]}}}, "content_filter"),
    ],
)
def test_a_200_that_carries_an_error_is_none(body: object, code: str) -> None:
    with pytest.raises(SluiceError) as failed:
        OPENROUTER.whole(order(OPENROUTER), orjson.dumps(body))
    assert failed.value.code == code


def test_an_answer_without_finish_reason_or_index_passes() -> None:
    body = b'{"id":"gen-1","choices":[{"message":{"content":"hi"}}],"usage":{"cost":0.00095}}'
    assert OPENROUTER.whole(order(OPENROUTER), body) is body


def test_the_catalogue_has_limits_prices_inputs_and_tools() -> None:
    _, models = listed(OPENROUTER, json({"data": [GPT4]}))
    (model,) = models
    assert (model.id, model.context, model.output, model.tools) == ("openai/gpt-4", 8192, 4096, True)
    assert model.inputs == ("text", "image") and model.owner == "openai"
    assert model.prices == {"input": 30.0, "output": 60.0, "cached": 0.0375}


@pytest.mark.parametrize(
    ("entry", "context", "output", "prices", "tools"),
    [
        ({"id": "a/b"}, None, None, None, None),
        ({"id": "a/b", "context_length": None, "top_provider": {"context_length": 7}}, 7, None, None, None),
        ({"id": "a/b", "pricing": {"prompt": "-1", "completion": "-1"}}, None, None, None, None),
        (
            {"id": "a/b:free", "pricing": {"prompt": "0", "completion": "0"}},
            None,
            None,
            {"input": 0, "output": 0},
            None,
        ),
        ({"id": "a/b", "pricing": {"prompt": None, "completion": "x"}, "top_provider": None}, None, None, None, None),
        ({"id": "a/b", "supported_parameters": []}, None, None, None, False),
        (
            {"id": "a/b", "pricing": {"prompt": "nan"}, "top_provider": {"max_completion_tokens": 0}},
            None,
            None,
            None,
            None,
        ),
    ],
)
def test_what_the_catalogue_does_not_say_is_unknown(
    entry: dict[str, Any], context: int | None, output: int | None, prices: object, tools: bool | None
) -> None:
    _, (model,) = listed(OPENROUTER, json({"data": [entry]}))
    assert (model.context, model.output, model.prices, model.tools) == (context, output, prices, tools)


def test_four_hundred_models_are_quick() -> None:
    answer = json({"data": [GPT4 | {"id": f"openai/gpt-{n}"} for n in range(400)]})
    began = perf_counter()
    _, models = listed(OPENROUTER, answer)
    assert len(models) == 400 and perf_counter() - began < 0.5


def spent(double: Double, request: Received) -> Answer:
    """A stream whose first event says that other calls hold the budget."""
    error = {"code": 402, "message": "busy", "metadata": {"limit_source": "openrouter_in_flight_budget"}}
    choices = [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}]
    return stream_answer([sse({"id": "gen-1", "error": error, "choices": choices})])


def test_an_error_event_is_judged_as_an_answer_is() -> None:
    """Its metadata says what the number alone does not: here, that our key is well."""
    raw = {"provider_name": "X", "raw": '{"error":{"message":"it fell off"}}'}
    told = OPENROUTER.failure_in({"error": {"code": 502, "message": "Provider returned error", "metadata": raw}})
    assert told is not None and "it fell off" in told.message
    assert OPENROUTER.failure_in({"choices": [{"delta": {"content": "error"}}]}) is None
    with OpenRouterDouble() as double, sluice(CONFIG.format(url=double.url, key=double.key)) as proxy:
        double.always = spent
        ask = {"model": "up/openai/gpt-4o", "messages": [{"role": "user", "content": "x"}], "stream": True}
        answer = proxy.chat(ask)
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "upstream_rate_limited")
        with proxy.client() as client:
            assert client.get("/health").json()["upstreams"][0]["healthy"]


CONFIG = """
upstreams: {{up: {{provider: openrouter, base_url: "{url}", api_key: {key}}}}}
defaults: {{retry: {{attempts: 1}}}}
"""
