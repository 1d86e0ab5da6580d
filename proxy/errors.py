"""What can go wrong, and whose fault it was: the one error every part of Sluice raises.

    SluiceError
    ├── client_*      client_invalid_json 400 · client_invalid_request 400 (also for 404, 405, 415, 431)
    │                 client_too_large 413 · client_timeout 408 · client_cancelled 499 (log and metrics only)
    ├── as OpenAI     invalid_api_key 401 · model_not_found 404 · context_length_exceeded 400
    ├── policy_*      policy_rate_limited 429 · policy_concurrency 429 · policy_forbidden 403
    ├── upstream_*    upstream_not_configured 503 · upstream_auth_failed 502 · upstream_rate_limited 429
    │                 upstream_overloaded 503 · upstream_error 502 · upstream_unreachable 502
    │                 upstream_truncated 502 · upstream_malformed 502 · upstream_timeout 504
    │                 upstream_timeout_{connect,first_token,idle,whole,total,queue} 504
    ├── proxy_*       proxy_internal 500 · proxy_draining 503 · proxy_overloaded 503 · proxy_loop 508
    └── others        endpoint_not_supported 404 · cache_miss 504

A client's own fault that an upstream reports keeps the upstream's status, message and code, so a code outside this
list can reach a client only that way; in metrics it counts as `client_invalid_request`.
"""

from dataclasses import dataclass, field
from math import ceil
from typing import Final, Literal

import orjson

from proxy.secrecy import Blank

STATUS: Final[dict[str, int]] = {
    "client_invalid_json": 400,
    "client_invalid_request": 400,
    "client_too_large": 413,
    "client_timeout": 408,
    "client_cancelled": 499,
    "invalid_api_key": 401,
    "model_not_found": 404,
    "context_length_exceeded": 400,
    "policy_rate_limited": 429,
    "policy_concurrency": 429,
    "policy_forbidden": 403,
    "upstream_not_configured": 503,
    "upstream_auth_failed": 502,
    "upstream_rate_limited": 429,
    "upstream_overloaded": 503,
    "upstream_error": 502,
    "upstream_unreachable": 502,
    "upstream_truncated": 502,
    "upstream_malformed": 502,
    "upstream_timeout": 504,
    "upstream_timeout_connect": 504,
    "upstream_timeout_first_token": 504,
    "upstream_timeout_idle": 504,
    "upstream_timeout_whole": 504,
    "upstream_timeout_total": 504,
    "upstream_timeout_queue": 504,
    "proxy_internal": 500,
    "proxy_draining": 503,
    "proxy_overloaded": 503,
    "proxy_loop": 508,
    "endpoint_not_supported": 404,
    "cache_miss": 504,
}
_IN_VAIN: Final = ("proxy_loop", "cache_miss")  # a retry would fail alike, and SDKs retry every 5xx
TYPES: Final[dict[str, str]] = {"upstream": "upstream_error", "proxy": "proxy_error", "policy": "policy_error"}

Again = Literal["same", "next", "never"]
"""What may follow a failed attempt: the same target again, only another target, or no further attempt."""


@dataclass(slots=True, eq=False)
class SluiceError(Exception):
    """A failure as the caller is to see it. Messages never hold keys, our addresses or texts of foreign exceptions."""

    code: str
    message: str
    status: int = 0  # HTTP status; 0: the code's own
    param: str | None = None
    again: Again = "never"  # what dispatch may do after it
    retry_after: float | None = None  # seconds, as the upstream asked
    should_retry: bool | None = None  # sent as x-should-retry where known
    kind: str = ""  # OpenAI's `type`; "": by code
    lines: list[tuple[bytes, bytes]] = field(default_factory=list)  # headers of the upstream that may be passed on
    own: str = ""  # the part of the message that is in our own words; "": all of it
    number: int = 0  # of its event, in a stream of the Responses API, which numbers them

    def __post_init__(self) -> None:
        self.status = self.status or STATUS.get(self.code, 400)
        if self.code in _IN_VAIN:
            self.should_retry = False
        self.kind = self.kind or TYPES.get(self.code.partition("_")[0], "invalid_request_error")

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"

    def blank(self, blank: Blank) -> None:
        """Removes secrets from the upstream's texts: message, headers, and code (replaced if it holds one)."""
        self.message, self.kind = blank(self.message), blank(self.kind)
        self.param = self.param and blank(self.param)
        self.lines = [(name, blank(value.decode("latin-1")).encode("latin-1")) for name, value in self.lines]
        if blank(self.code) != self.code:
            self.code = "client_invalid_request"

    def body(self) -> bytes:
        """OpenAI's envelope as JSON bytes."""
        return orjson.dumps({"error": self._fields()})

    def event(self) -> bytes:
        """The same envelope as one server-sent event, for a stream that has begun."""
        return b"data: " + self.body() + b"\n\n"

    def responses_event(self) -> bytes:
        """The failure as an event of the Responses API.

        Message, code and param stand at the top, where OpenAI documents them, and in `error`, where OpenAI sends them:
        clients look in either place.
        """
        fields = self._fields()
        event = {**fields, "type": "error", "sequence_number": self.number, "error": fields}
        return b"event: error\ndata: " + orjson.dumps(event) + b"\n\n"

    def _fields(self) -> dict[str, str | None]:
        return {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}

    def headers(self) -> list[tuple[bytes, bytes]]:
        """The upstream's, then `retry-after` (whole seconds, at most 60) and `x-should-retry` where they are known."""
        found = [*self.lines]
        if self.retry_after is not None:
            found.append((b"retry-after", b"%d" % ceil(min(60.0, self.retry_after))))
        if self.should_retry is not None:
            found.append((b"x-should-retry", b"true" if self.should_retry else b"false"))
        return found


def draining() -> SluiceError:
    """The error of a call that is ended, or not begun, because the process is shutting down."""
    return SluiceError("proxy_draining", "The proxy is shutting down.", retry_after=1)


def invalid_field(param: str, problem: str) -> SluiceError:
    """A 400 that names a field of the request: "`stream` must be true or false."."""
    return SluiceError("client_invalid_request", f"`{param}` {problem}.", param=param)


def metric_code(error: SluiceError) -> str:
    """The error's code if it is on the closed list, else client_invalid_request: for labels and logs."""
    return error.code if error.code in STATUS else "client_invalid_request"
