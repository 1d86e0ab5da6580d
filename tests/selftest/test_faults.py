"""Each fault as the bytes that a caller of the upstream gets."""

import orjson
import pytest

from proxy.providers.failures import retry_after
from proxy.selftest import faults
from proxy.selftest.upstream import Script, healthy
from proxy.sse import events, payload
from tests.selftest.exchanges import FULL_TEXT, SCALE, exchange, request


def test_a_healthy_answer_is_complete() -> None:
    for stream in (True, False):
        got, there = exchange(healthy, request(stream=stream))
        assert (got.status, got.text, got.finishes, got.done, got.counted) == (200, FULL_TEXT, ("stop",), True, 11)
        assert got.whole and not there.closed


def test_a_healthy_continuation_is_the_rest() -> None:
    got, _ = exchange(healthy, request(begun=FULL_TEXT[:50]))
    assert got.text == FULL_TEXT[50:]


def test_a_refusal_has_its_status_and_asks_to_wait() -> None:
    got, _ = exchange(faults.refused(429, "Slow down.", "rate_limit", 2.0))
    assert (got.status, got.code, got.message) == (429, "rate_limit", "Slow down.")
    assert retry_after([(b"retry-after", got.headers["retry-after"].encode())]) == pytest.approx(2 * SCALE)


def test_a_reset_comes_before_any_head() -> None:
    got, there = exchange(faults.reset)
    assert (got.status, there.reset, there.raw) == (0, True, b"")


def test_a_silent_upstream_never_answers() -> None:
    got, there = exchange(faults.silent, seconds=0.1)
    assert got.hung and there.raw == b""


@pytest.mark.parametrize(
    ("script", "tokens", "whole"),
    [
        (faults.cut(40), 40, False),
        (faults.stalled(20, 30), 20, False),
        (faults.ended_early(40), 40, True),
        (faults.edited(faults.only_a_role), 0, False),
    ],
)
def test_a_broken_answer_has_no_end_marker(script: Script, tokens: int, whole: bool) -> None:
    got, there = exchange(script)
    assert len(got.text.split(" ")) == max(tokens, 1) and FULL_TEXT.startswith(got.text)
    assert (got.finishes, got.done, got.whole, there.closed) == ((), False, whole, not whole)


def test_a_whole_answer_can_be_shorter_than_announced() -> None:
    got, there = exchange(faults.cut(40), request(stream=False))
    assert not got.whole and there.closed
    promised = int(got.headers["content-length"])
    assert len(there.raw.partition(b"\r\n\r\n")[2]) == promised * 2 // 3


def test_an_error_event_comes_after_so_many_tokens() -> None:
    got, there = exchange(faults.error_event(20))
    assert (got.code, len(got.text.split(" ")), got.done) == ("server_error", 20, False)
    got, there = exchange(faults.error_event(0))
    assert got.text == "" and b"role" not in there.raw


def test_one_event_is_no_json() -> None:
    got, _ = exchange(faults.edited(faults.invalid_json))
    assert (got.text, got.invalid_events, got.done) == (FULL_TEXT, 1, True)


def test_a_stream_can_lack_only_its_end_marker() -> None:
    got, _ = exchange(faults.edited(faults.no_end))
    assert (got.text, got.finishes, got.done, got.whole) == (FULL_TEXT, ("stop",), False, True)


def test_a_finish_reason_can_report_a_failure() -> None:
    got, _ = exchange(faults.edited(faults.finish_error))
    assert (got.finishes, got.done) == (("error",), True) and got.text != FULL_TEXT


@pytest.mark.parametrize("edit", [faults.bytewise, faults.crlf, faults.commented, faults.multi_line])
def test_unusual_framing_has_the_same_content(edit: faults.Edit) -> None:
    got, there = exchange(faults.edited(edit))
    assert (got.text, got.finishes, got.done, got.counted, got.oddities) == (FULL_TEXT, ("stop",), True, 11, ())


def test_unusual_framing_differs_from_the_usual() -> None:
    plain = exchange(healthy)[1].raw
    for edit, sign in (
        (faults.crlf, b"}\r\r\n"),
        (faults.commented, b"\xef\xbb\xbf"),
        (faults.multi_line, b',\ndata: "'),
    ):
        raw = exchange(faults.edited(edit))[1].raw
        assert sign in raw and sign not in plain
    assert exchange(faults.edited(faults.bytewise))[1].raw.count(b"\r\n1\r\n") > 1000


def test_usage_can_be_missing_or_wrong() -> None:
    assert exchange(faults.edited(faults.no_usage))[0].counted is None
    raw = exchange(faults.edited(faults.wrong_usage))[1].raw
    found = [
        orjson.loads(payload(event) or b"0") for event in events(raw) if b'"usage":{' in event and b"many" in event
    ]
    assert found[0]["usage"] == {"prompt_tokens": -4, "completion_tokens": "many", "total_tokens": 71}


def test_a_long_line_comes_before_any_event() -> None:
    raw = exchange(faults.long_line(2))[1].raw
    assert b"x" * (1 << 18) in raw and len(raw) > 2 << 20


def test_a_page_is_html_whatever_the_status() -> None:
    for status in (200, 500):
        got, there = exchange(faults.page(status))
        assert (got.status, got.headers["content-type"][:9]) == (status, "text/html") and faults.PAGE in there.raw


def test_200_can_hold_an_error_or_nothing() -> None:
    got, _ = exchange(faults.error_in_200)
    assert (got.status, got.code) == (200, "server_error")
    got, there = exchange(faults.empty)
    assert (got.status, got.text) == (200, "")


def test_a_prefill_is_refused_and_nothing_else() -> None:
    assert exchange(faults.no_prefill, request(begun="[ab"))[0].status == 400
    assert exchange(faults.no_prefill)[0].text == FULL_TEXT


def test_a_redirect_names_another_location() -> None:
    got, _ = exchange(faults.redirected)
    assert (got.status, got.headers["location"]) == (307, "http://127.0.0.1:9/")


@pytest.mark.parametrize("provider", ["ollama", "anthropic"])
def test_answers_in_other_dialects_can_break_too(provider: str) -> None:
    path = "/api/chat" if provider == "ollama" else "/v1/messages"
    full, short = (
        exchange(healthy, request(path=path), provider)[1],
        exchange(faults.cut(40), request(path=path), provider)[1],
    )
    end = b'"done":true' if provider == "ollama" else b"message_stop"
    assert end in full.raw and end not in short.raw
    assert short.closed and full.raw.count(b"content") > short.raw.count(b"content") >= 40
