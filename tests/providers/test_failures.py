from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.call import Headers
from proxy.providers.failures import error_in_event, judge, retry_after
from proxy.providers.reports import Report, report_in


def judged(status: int, body: str, *headers: tuple[bytes, bytes]) -> tuple[str, int, str]:
    error = judge(status, report_in(body.encode()), list(headers))
    return error.code, error.status, error.again


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (400, '{"error":{"message":"bad","code":"invalid_value"}}', ("invalid_value", 400, "never")),
        (400, '{"error":{"message":"bad","code":400}}', ("client_invalid_request", 400, "never")),
        (400, '{"error":{"message":"bad","code":"proxy_internal"}}', ("client_invalid_request", 400, "never")),
        (400, "", ("client_invalid_request", 400, "never")),
        (413, "<html>", ("client_too_large", 413, "never")),
        (422, '{"detail":[{"loc":["body","n"],"msg":"no"}]}', ("client_invalid_request", 422, "never")),
        (400, '{"error":{"message":"x","code":"content_filter"}}', ("content_filter", 400, "never")),
        (
            403,
            '{"error":{"message":"x","code":"content_policy_violation"}}',
            ("content_policy_violation", 403, "never"),
        ),
        (403, '{"error":{"message":"Your input was flagged"}}', ("content_filter", 403, "never")),
        (403, '{"error":{"message":"flagged","code":"upstream_error"}}', ("content_filter", 403, "never")),
        (404, '{"error":{"message":"x","param":"n","code":"proxy_internal"}}', ("model_not_found", 404, "never")),
        (403, '{"error":{"message":"no permission"}}', ("upstream_auth_failed", 502, "next")),
        (401, '{"error":{"message":"Incorrect API key"}}', ("upstream_auth_failed", 502, "next")),
        (402, '{"error":"pay"}', ("upstream_auth_failed", 502, "next")),
        (400, '[{"error":{"message":"API key not valid. Please"}}]', ("upstream_auth_failed", 502, "next")),
        (404, '{"error":{"message":"The model `x` does not exist","code":404}}', ("model_not_found", 404, "never")),
        (404, '{"error":{"message":"x","code":"model_not_found"}}', ("model_not_found", 404, "never")),
        (404, '{"error":"model \'x\' not found"}', ("model_not_found", 404, "never")),
        (404, '{"error":{"message":"no","param":"previous_response_id","code":"gone"}}', ("gone", 404, "never")),
        (404, "<html>Not Found</html>", ("upstream_error", 502, "next")),
        (404, '{"detail":"Not Found"}', ("upstream_error", 502, "next")),
        (404, '{"error":{"message":"no","type":"invalid_request_error"}}', ("upstream_error", 502, "never")),
        (405, "", ("upstream_error", 502, "next")),
        (410, '{"error":{"message":"gone"}}', ("upstream_error", 502, "never")),
        (418, '{"error":{"message":"teapot"}}', ("upstream_error", 502, "never")),
        (302, "", ("upstream_error", 502, "next")),
        (408, "", ("upstream_timeout", 504, "same")),
        (409, "", ("upstream_error", 502, "same")),
        (429, "", ("upstream_rate_limited", 429, "same")),
        (429, '{"error":{"message":"x","code":"insufficient_quota"}}', ("upstream_rate_limited", 429, "next")),
        (429, '{"error":{"message":"x","type":"insufficient_quota"}}', ("upstream_rate_limited", 429, "next")),
        (498, '{"error":{"message":"x","code":"capacity_exceeded"}}', ("upstream_overloaded", 503, "same")),
        (500, "<html>", ("upstream_error", 502, "same")),
        (503, "", ("upstream_overloaded", 503, "same")),
        (504, "", ("upstream_timeout", 504, "same")),
        (524, "", ("upstream_timeout", 504, "same")),
        (529, "", ("upstream_overloaded", 503, "same")),
    ],
)
def test_a_status_says_whose_fault_it_was_and_what_may_follow(
    status: int, body: str, outcome: tuple[str, int, str]
) -> None:
    assert judged(status, body) == outcome


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, {"message": "x", "code": "context_length_exceeded"}),
        (400, {"message": "x", "type": "exceed_context_size_error"}),
        (500, {"message": "the request exceeds the available context size. try increasing it", "type": "server_error"}),
        (400, {"message": "This model's maximum context length is 8192 tokens. However, you requested 9000"}),
        (400, {"message": "prompt is too long: 210000 tokens > 200000 maximum"}),
        (400, {"message": "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."}),
        (400, {"message": "the prompt is longer than the context length currently available"}),
        (400, {"message": "the input length exceeds the context length"}),
        (400, {"message": "Prompt contains 40000 tokens, too large for model with 32768 maximum context length"}),
        (413, {"message": "Input is too long for requested model."}),
        (
            400,
            {
                "message": "You passed 9 input tokens and requested 2 output tokens. However, the model's context length is only 8"
            },
        ),
        (400, {"message": "The decoder prompt (length 9) is longer than the maximum model length of 8. Make sure"}),
        (400, {"message": "The input (61709 tokens) is longer than the model's context length (40960 tokens)."}),
        (422, {"message": "`inputs` tokens + `max_new_tokens` must be <= 8193. Given: 9000 `inputs` tokens and 100"}),
        (
            400,
            {"message": "However, the model is loaded with context length of only 4096 tokens, which is not enough."},
        ),
        (0, {"message": "The number of tokens to keep from the initial prompt is greater than the context length."}),
    ],
)
def test_a_prompt_that_does_not_fit_is_recognised(status: int, error: dict[str, Any]) -> None:
    found = judge(status, Report(error["message"], error.get("code", ""), error.get("type", "")))
    assert (found.code, found.status, found.again) == (
        "context_length_exceeded",
        status if status in (413, 422) else 400,
        "never",
    )


def test_a_call_beyond_our_rate_is_not_the_clients_fault() -> None:
    """Groq tells it so; another target can answer, and the same one cannot."""
    body = b'{"error":{"message":"Request too large, TPM: Limit 6000, Requested 9000","type":"tokens","code":"rate_limit_exceeded"}}'
    error = judge(413, report_in(body))
    assert (error.code, error.status, error.again, error.should_retry) == ("upstream_rate_limited", 429, "next", False)


@pytest.mark.parametrize(
    ("details", "headers", "seconds"),
    [
        ([{"@type": "…QuotaFailure"}, {"@type": "…RetryInfo", "retryDelay": "43s"}], [], 43),
        ([{"retryDelay": "0.25s"}], [], 0.25),
        ([{"retryDelay": "43s"}], [(b"retry-after", b"7")], 7),
        ([{"retryDelay": "soons"}, {"retryDelay": 9}, "odd", None], [], None),
        ({"retryDelay": "43s"}, [], None),
    ],
)
def test_google_says_in_the_body_how_long_to_wait(details: object, headers: Headers, seconds: float | None) -> None:
    body = orjson.dumps([{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "x", "details": details}}])
    assert judge(429, report_in(body), headers).retry_after == seconds


@pytest.mark.parametrize("status", [401, 402, 403])
def test_texts_about_credentials_are_not_passed_on(status: int) -> None:
    error = judge(status, report_in(b'{"error":{"message":"key of Bob\'s: abc...xyz","code":"invalid_api_key"}}'))
    assert "Bob" not in error.message and error.should_retry is False


def test_what_the_client_did_wrong_keeps_message_type_param_and_code() -> None:
    body = b'{"error":{"message":"Too big","type":"invalid_request_error","param":"max_tokens","code":"invalid_value"}}'
    error = judge(400, report_in(body))
    assert (error.message, error.kind, error.param) == ("Too big", "invalid_request_error", "max_tokens")


@pytest.mark.parametrize(
    ("event", "code", "status"),
    [
        ({"error": {"message": "x", "code": 429}}, "upstream_rate_limited", 429),
        ({"error": {"message": "x", "code": "capacity_exceeded"}}, "upstream_overloaded", 503),
        ({"error": {"message": "x", "code": "image_too_large"}}, "image_too_large", 400),
        ({"object": "response", "status": "failed", "error": None}, "upstream_error", 502),
        ({"error": {"message": "x", "code": "rate_limit_exceeded"}}, "upstream_rate_limited", 429),
        ({"error": {"message": "x", "code": "server_error"}, "choices": []}, "upstream_error", 502),
        ({"error": {"message": "x", "type": "overloaded_error"}}, "upstream_overloaded", 503),
        (
            {"error": {"code": 502, "message": "x", "metadata": {"error_type": "provider_unavailable"}}},
            "upstream_error",
            502,
        ),
        ({"error": "it broke"}, "upstream_error", 502),
        ({"choices": [{"delta": {}, "finish_reason": "error"}]}, "upstream_error", 502),
        ({"choices": [{"delta": {}, "finish_reason": "abort"}]}, "upstream_error", 502),
        ({"choices": [{"delta": {}, "finish_reason": "insufficient_system_resource"}]}, "upstream_overloaded", 503),
        ({"choices": [{"finish_reason": "error", "error": {"code": 504, "message": "x"}}]}, "upstream_timeout", 504),
        ({"object": "error", "message": "x", "type": "BadRequestError", "code": 400}, "client_invalid_request", 400),
        ({"error": {"message": "x", "code": 401}}, "upstream_auth_failed", 502),
    ],
)
def test_an_event_can_be_a_failure(event: dict[str, Any], code: str, status: int) -> None:
    error = error_in_event(event)
    assert error is not None and (error.code, error.status) == (code, status)


@pytest.mark.parametrize(
    "event", [{}, {"choices": []}, {"error": None, "choices": [{"delta": {"content": "error"}}]}, {"choices": [None]}]
)
def test_an_event_mostly_is_none(event: dict[str, Any]) -> None:
    assert error_in_event(event) is None


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ([], None),
        ([(b"retry-after", b"0.1")], 0.1),
        ([(b"retry-after", b"200")], 200),
        ([(b"retry-after", b"-5")], 0),
        ([(b"retry-after", b"nan")], None),
        ([(b"retry-after", b"soon")], None),
        ([(b"retry-after", b"Wed, 21 Oct 2015 07:28:00 +99999999999999999999")], None),
        ([(b"retry-after", b"")], None),
        ([(b"retry-after", b"9"), (b"retry-after-ms", b"1500")], 1.5),
        ([(b"retry-after", b"9"), (b"retry-after-ms", b"x")], 9),
        ([(b"retry-after", b"Wed, 21 Oct 2015 07:28:00 GMT")], 0),
    ],
)
def test_the_wait_that_is_asked_for_is_read(headers: list[tuple[bytes, bytes]], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


def test_a_date_is_a_wait_too() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True).encode()
    assert 25 < (retry_after([(b"retry-after", date)]) or 0) <= 30


@given(st.binary())
def test_no_retry_after_breaks_the_reading(asked: bytes) -> None:
    wait = retry_after([(b"retry-after", asked)])
    assert wait is None or wait >= 0


def test_an_upstream_that_forbids_retries_is_heeded() -> None:
    assert judged(500, "", (b"x-should-retry", b"false")) == ("upstream_error", 502, "next")


@given(st.integers(300, 599), st.binary())
def test_any_answer_outside_2xx_is_a_failure_that_can_be_shown(status: int, body: bytes) -> None:
    error = judge(status, report_in(body))
    assert error.message and 400 <= error.status <= 599 and error.body()
