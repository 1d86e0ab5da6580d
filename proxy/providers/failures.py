"""Interprets an upstream's failure: whose fault it was, and what may follow."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import Any, Final

from proxy.call import Headers
from proxy.errors import TYPES, Again, SluiceError
from proxy.headers import value
from proxy.providers.reports import Report, report_of
from proxy.shapes import list_of, object_of, string_of

_OF_RESPONSES: Final = (
    "bio_policy",
    "misalignment_policy_violation",
    "image_content_policy_violation",
    "invalid_image_format",
    "invalid_base64_image",
    "invalid_image_url",
    "invalid_image_mode",
    "image_too_large",
    "image_too_small",
    "image_file_too_large",
    "image_parse_error",
    "image_file_not_found",
    "empty_image_file",
    "unsupported_image_media_type",
    "failed_to_download_image",
)
"""Codes of failed responses caused by what the client sent (openai SDK, types/responses/response_error.py)."""
_STATUS_OF_WORD: Final[Mapping[str, int]] = {
    **dict.fromkeys(_OF_RESPONSES, 400),
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "slow_down": 429,
    "insufficient_quota": 429,
    "credit_balance_exhausted": 429,
    "invalid_request_error": 400,
    "invalid_request": 400,
    "invalid_prompt": 400,
    "BadRequestError": 400,
    "context_length_exceeded": 400,
    "exceed_context_size_error": 400,
    "max_tokens_exceeded": 400,
    "token_limit_exceeded": 400,
    "string_too_long": 400,
    "invalid_image": 400,
    "content_filter": 400,
    "content_policy_violation": 403,
    "refusal": 403,
    "payload_too_large": 413,
    "request_too_large": 413,
    "unprocessable": 422,
    "authentication": 401,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "payment_required": 402,
    "billing_error": 402,
    "permission_denied": 403,
    "permission_error": 403,
    "not_found": 404,
    "not_found_error": 404,
    "NotFoundError": 404,
    "model_not_found": 404,
    "overloaded_error": 529,
    "server_is_overloaded": 503,
    "provider_overloaded": 503,
    "capacity_exceeded": 503,
    "unavailable_error": 503,
    "insufficient_system_resource": 503,
    "timeout": 504,
    "timeout_error": 504,
}
"""The status that a report inside a 200 stands for, by its `code` or `type`; any other is a 502."""

_UPSTREAMS: Final[Mapping[int, tuple[str, str]]] = {
    401: ("upstream_auth_failed", "The upstream refused our credentials."),
    402: ("upstream_auth_failed", "The upstream says that our account cannot pay."),
    403: ("upstream_auth_failed", "The upstream refused us access."),
    407: ("upstream_auth_failed", "The upstream refused our credentials."),
    408: ("upstream_timeout", "The upstream timed out"),
    409: ("upstream_error", "The upstream reports a conflict"),
    425: ("upstream_error", "The upstream is not ready for the request"),
    429: ("upstream_rate_limited", "The upstream's rate limit is reached"),
    503: ("upstream_overloaded", "The upstream is overloaded"),
    504: ("upstream_timeout", "The upstream timed out"),
    524: ("upstream_timeout", "The upstream timed out"),
    529: ("upstream_overloaded", "The upstream is overloaded"),
}
_PASSING: Final = (408, 409, 425, 429)  # 4xx statuses that may be temporary
_SENT_ON: Final = (401, 402, 403, 407, 499, *_PASSING)  # the next target may succeed; 499: it closed the request
_CLIENTS: Final[Mapping[int, str]] = {
    400: "client_invalid_request",
    413: "client_too_large",
    422: "client_invalid_request",
}

_TOO_LONG_CODES: Final = {"context_length_exceeded", "exceed_context_size_error", "token_limit_exceeded"}
_TOO_LONG: Final = re.compile(
    r"maximum (?:context|prompt|input|model) length|(?:prompt|input) is too long|input token count.{0,40}exceeds"
    r"|context length (?:is|of) only|`inputs`.{0,40} must (?:be <=|have less than)"
    r"|context (?:length|window|size|limit)(?: is| was)? exceeded"
    r"|(?:exceeds?|exceeded|longer than|greater than|too large for)\b.{0,60}\bcontext (?:length|window|size|limit)",
    re.I | re.S,
)
_FILTERED_CODES: Final = {"content_filter", "content_policy_violation", "refusal"}
_FILTERED: Final = re.compile(
    r"\bmoderat|\bflagged\b|content (?:filter|policy|management policy)|safety (?:filter|system|polic)", re.I
)
_SPENT_CODES: Final = {"insufficient_quota", "credit_balance_exhausted", "billing_hard_limit_reached"}
_BAD_KEY_CODES: Final = {"invalid_api_key", "authentication", "authentication_error", "payment_required"}
_BAD_KEY: Final = re.compile(
    r"api[ _-]?key (?:is )?(?:not valid|invalid|expired)|(?:invalid|incorrect) api[ _-]?key", re.I
)
_NO_MODEL: Final = re.compile(r"\b(?:models?|deployment)\b", re.I)
_OTHERS_FAULT: Final = tuple(f"{whose}_" for whose in TYPES)  # prefixes of our codes that are not the client's fault


def judge(status: int, report: Report, headers: Headers | None = None) -> SluiceError:
    """The error for our caller that a report with this status means. `status` 0: the report came inside a 200."""
    if status == 508:
        return SluiceError("proxy_loop", "The call came back to a proxy that it had passed before.")
    unnamed = f"The upstream answered with status {status}" if status else "The upstream reported an error"
    status = status or status_of(report)
    beyond = status == 413 and report.code == "rate_limit_exceeded"  # Groq: exceeds our account's tokens per minute
    if beyond:
        status = 429
    elif status == 498:  # Groq: its flex tier is out of capacity
        status = 503
    elif (own_fault := _clients_own(status, report)) is not None:
        return own_fault
    wait = retry_after(headers or [])
    wait = _retry_delay(report) if wait is None else wait
    if report.code in _SPENT_CODES or report.kind in _SPENT_CODES:
        return SluiceError(
            "upstream_rate_limited",
            "The upstream reports that the quota of this proxy's account is used up.",
            again="next",
            retry_after=wait,
            should_retry=False,
        )
    if status in _CLIENTS:  # a bad key, reported as a bad request
        status = 401
    code, says = _UPSTREAMS.get(status, ("upstream_error", unnamed))
    again = "next" if beyond else _again(status, report, headers or [])
    own = says
    if code != "upstream_auth_failed":  # a text about credentials can echo them
        own += "."
        says = f"{says}: {report.message}" if report.message else own
    should_retry = None if again == "same" else False
    return SluiceError(code, says, again=again, retry_after=wait, should_retry=should_retry, own=own)


def _clients_own(status: int, report: Report) -> SluiceError | None:
    """The error if the client's request was at fault: with the upstream's status, message and code; else None."""
    said = report.message
    theirs = "" if report.code.startswith(_OTHERS_FAULT) else report.code
    if _too_long(status, report):
        code, status = "context_length_exceeded", status if status < 500 else 400
    elif status == 403 and (report.code in _FILTERED_CODES or _FILTERED.search(said)):
        code = theirs or "content_filter"
    elif status == 404 and (report.param or report.code == "model_not_found" or _NO_MODEL.search(said)):
        code = theirs if theirs and report.param not in (None, "model") else "model_not_found"
    elif status in _CLIENTS and not (report.code in _BAD_KEY_CODES or _BAD_KEY.search(said)):
        code = theirs or _CLIENTS[status]
    else:
        return None
    own = "The upstream refused the request."
    return SluiceError(code, said or own, status=status, param=report.param, kind=report.kind, own=own)


def _too_long(status: int, report: Report) -> bool:
    """Whether prompt and answer did not fit the context; llama.cpp may report that by a 500."""
    if status not in (400, 413, 422, 500):
        return False
    return (
        report.code in _TOO_LONG_CODES or report.kind in _TOO_LONG_CODES or _TOO_LONG.search(report.message) is not None
    )


def _again(status: int, report: Report, headers: Headers) -> Again:
    """What may follow a failure that was not the client's."""
    if 400 <= status < 500 and status not in _SENT_ON:
        nowhere = status in (404, 405) and not (report.code or report.kind)  # our configured address is wrong
        return "next" if nowhere else "never"
    if value(headers, b"x-should-retry") == b"false":
        return "next"
    return "same" if status in _PASSING or status >= 500 else "next"


def status_of(report: Report) -> int:
    """The HTTP status that a report inside a 200 stands for."""
    known = report.status or _STATUS_OF_WORD.get(report.code) or _STATUS_OF_WORD.get(report.kind)
    return known or (400 if _TOO_LONG.search(report.message) else 502)


def error_in_event(fields: Mapping[str, Any]) -> SluiceError | None:
    """The failure that an event of a running stream (or a whole 200 answer) reports; None: it reports none."""
    report = report_of(fields)
    return None if report is None else judge(0, report)


def retry_after(headers: Headers) -> float | None:
    """The seconds that the upstream asks to wait: `retry-after-ms`, or `retry-after` (seconds or HTTP date)."""
    if (wait := _number(value(headers, b"retry-after-ms"))) is not None:
        return wait / 1000
    asked = value(headers, b"retry-after")
    if asked is None or (wait := _number(asked)) is not None:
        return wait
    try:
        date = parsedate_to_datetime(asked.decode("latin-1"))
    except (ValueError, OverflowError):
        return None
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.now(UTC)).total_seconds())


def _retry_delay(report: Report) -> float | None:
    """The same in Google's form: `retryDelay` of the RetryInfo in the error details, "43s" or "0.5s"."""
    details = report.fields.get("details")
    told = (object_of(detail).get("retryDelay") for detail in list_of(details))
    waits = (_number(delay[:-1].encode(errors="replace")) for delay in map(string_of, told) if delay.endswith("s"))
    return next((wait for wait in waits if wait is not None), None)


def _number(text: bytes | None) -> float | None:
    try:
        number = float(text or b"")
    except ValueError:
        return None
    return max(0.0, number) if isfinite(number) else None
