"""All faults, each with what is acceptable when it occurs; the first sixteen are those of the public benchmark."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from proxy.selftest import faults as f
from proxy.selftest.episodes import (
    PAUSE,
    Episode,
    back_after,
    backing_off,
    leaving,
    once,
    once_whole,
    series,
    slow_reader,
)
from proxy.selftest.judging import Expectation
from proxy.selftest.upstream import Ask, Script, healthy
from proxy.selftest.wire import FOREVER, Answer, Asked

ALL: Final = frozenset({"openai", "ollama", "anthropic"})
SSE: Final = frozenset({"openai", "anthropic"})
OPENAI: Final = frozenset({"openai"})


@dataclass(frozen=True, slots=True)
class Fault:
    """One row. `dialects`: those in which it exists; `alone`: too heavy or timing-sensitive to run beside others."""

    number: int
    title: str
    first: Script
    expects: Expectation
    episode: Episode = once
    others: Script = healthy
    dialects: frozenset[str] = ALL
    alone: bool = False


def _codes(*names: str) -> frozenset[str]:
    return frozenset(f"upstream_{name}" for name in names)


_LIMITED: Final = Expectation(_codes("rate_limited"))
_FAILED: Final = Expectation(_codes("error"))
_OVERLOADED: Final = Expectation(_codes("overloaded"))
_SILENT: Final = Expectation(_codes("timeout_first_token"), lasts=FOREVER, clock="first_token", again=False)
_BROKEN: Final = Expectation(_codes("truncated", "unreachable"), midway=True)
_STALLED: Final = Expectation(
    _codes("timeout_idle", "truncated", "unreachable"), lasts=30, clock="idle", again=False, midway=True
)
_GARBLED: Final = Expectation(_codes("malformed", "error"))
_NOTHING: Final = Expectation(frozenset())
"""A fault that no caller should notice."""
_REPORTED: Final = Expectation(_codes("error", "overloaded"))

_DOWN = f.refused(503, "The server is down.", "service_unavailable")
_LIMIT: Final = "Rate limit reached."


def _pause(ask: Ask) -> Answer:
    return f.refused(429, _LIMIT, "", PAUSE / ask.scale)(ask)


_TOO_LONG = f.refused(
    400,
    "This model's maximum context length is 10 tokens. However, your messages resulted in 99 tokens: prompt is too "
    "long: 99 tokens > 10 maximum",
    "context_length_exceeded",
)
_FILTERED = f.refused(400, "The response was filtered by the content management policy.", "content_filter")

SIXTEEN: Final = (
    Fault(1, "429 with Retry-After 2, then fine", f.times(1, f.refused(429, _LIMIT, "", 2)),
          replace(_LIMITED, gap=2.0, heals=True)),
    Fault(2, "429 on every request", f.refused(429, _LIMIT), _LIMITED),
    Fault(3, "500 once", f.times(1, f.refused(500, "Internal error.")), replace(_FAILED, heals=True)),
    Fault(4, "503 on every request", _DOWN, _OVERLOADED),
    Fault(5, "connection reset before the headers", f.reset, Expectation(_codes("unreachable"))),
    Fault(6, "accepts the request, never answers", f.silent, _SILENT),
    Fault(7, "headers at once, first token after 20 s", f.late(20), replace(_SILENT, lasts=20.0, heals=True)),
    Fault(8, "closed after 40 of 60 tokens", f.cut(40), _BROKEN),
    Fault(9, "silent after 20 tokens for 30 s, then closed", f.stalled(20, 30), _STALLED),
    Fault(10, "one event that is not JSON", f.edited(f.invalid_json),
          replace(_GARBLED, midway=True, invalid_events=True)),
    Fault(11, "complete, but no [DONE]", f.edited(f.no_end), _NOTHING, dialects=SSE),
    Fault(12, "400 context length exceeded", _TOO_LONG,
          Expectation(frozenset({"context_length_exceeded"}), "error", 400, again=False)),
    Fault(13, "400 content filter", _FILTERED,
          Expectation(frozenset({"content_filter", "client_invalid_request", "invalid_request_error"}), "error", 400,
                      again=False)),
    Fault(14, "closed after 40 tokens, the fallback refuses a prefill", f.cut(40), _BROKEN, others=f.no_prefill),
    Fault(15, "503 for 60 s, then healthy", f.down_for(60, _DOWN), _OVERLOADED, back_after(60, 30)),
    Fault(16, "503; the answer shows the fallback's model name and usage", _DOWN, replace(_OVERLOADED, answered_by=1)),
)  # fmt: skip
"""In the benchmark's order."""


def _asked(asked: Sequence[Asked], raw: bytes) -> bool:
    return bool(asked)


def _content_came(asked: Sequence[Asked], raw: bytes) -> bool:
    return bool(asked) and (b'"content":"' in raw.replace(b'"content":""', b"") or asked[0].sent > 2000)


FURTHER: Final = (
    Fault(17, "500 with a page of HTML", f.page(500), _FAILED),
    Fault(18, "a page of HTML with status 200", f.page(200), _GARBLED),
    Fault(19, "a page of HTML with status 200, whole answer", f.page(200), _GARBLED, once_whole),
    Fault(20, "error JSON with status 200", f.error_in_200, _REPORTED),
    Fault(21, "error JSON with status 200, whole answer", f.error_in_200, _REPORTED, once_whole),
    Fault(22, "200 and an empty body", f.empty, replace(_GARBLED, codes=_codes("malformed", "truncated", "error"))),
    Fault(23, "a redirect", f.redirected, _FAILED),
    Fault(24, "an error event before any token", f.error_event(0), _REPORTED),
    Fault(25, "an error event after 20 tokens", f.error_event(20), replace(_REPORTED, midway=True)),
    Fault(26, "finish_reason: error after 20 tokens", f.edited(f.finish_error),
          replace(_REPORTED, midway=True), dialects=OPENAI),
    Fault(27, "a role and comments, then closed", f.edited(f.only_a_role), replace(_BROKEN, midway=False)),
    Fault(28, "the body ends regularly after 40 tokens", f.ended_early(40), _BROKEN),
    Fault(29, "whole answer, closed after two thirds", f.cut(40), replace(_BROKEN, midway=False), once_whole),
    Fault(30, "events split after every byte", f.edited(f.bytewise), _NOTHING, alone=True),
    Fault(31, "CRLF line ends, split in the middle", f.edited(f.crlf), _NOTHING),
    Fault(32, "a byte order mark, comments between events", f.edited(f.commented), _NOTHING, dialects=SSE),
    Fault(33, "events over several data lines", f.edited(f.multi_line), _NOTHING, dialects=SSE),
    Fault(34, "no usage, although it was asked for", f.edited(f.no_usage), _NOTHING, dialects=OPENAI),
    Fault(35, "wrong usage", f.edited(f.wrong_usage), _NOTHING, dialects=OPENAI),
    Fault(36, "a line of 40 MB", f.long_line(40), _GARBLED, alone=True),
    Fault(37, "kept-alive connection closed on reuse", f.closes_on_reuse, _NOTHING, series(3)),
    Fault(38, "two of three requests fail", f.flapping(_DOWN), replace(_OVERLOADED, heals=True), series(12)),
    Fault(39, "client stops reading", f.edited(f.padded), _NOTHING, slow_reader, dialects=OPENAI, alone=True),
    Fault(40, "client leaves while it waits for a stream", f.silent, _NOTHING, leaving(True, _asked), alone=True),
    Fault(41, "client leaves while it waits for a whole answer", f.silent, _NOTHING, leaving(False, _asked),
          alone=True),
    Fault(42, "client leaves in the middle of a stream", f.edited(f.paced), _NOTHING, leaving(True, _content_came),
          alone=True),
    Fault(43, "client leaves between two attempts", _pause, _NOTHING, backing_off, alone=True),
)  # fmt: skip
"""All other faults that can be simulated from outside."""

WALL: Final = (*SIXTEEN, *FURTHER)
