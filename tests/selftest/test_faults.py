"""Each fault as the bytes that a caller of the upstream gets."""

import orjson
import pytest

from proxy.providers.failures import retry_after
from proxy.selftest import faults
from proxy.selftest.upstream import Script, honest
from proxy.sse import events, payload
from tests.selftest.exchanges import SCALE, TRUTH, heard, request


def test_an_honest_answer_is_complete() -> None:
    for stream in (True, False):
        got, there = heard(honest, request(stream=stream))
        assert (got.status, got.text, got.finishes, got.done, got.counted) == (200, TRUTH, ("stop",), True, 11)
        assert got.whole and not there.closed


def test_an_honest_continuation_is_the_rest() -> None:
    got, _ = heard(honest, request(begun=TRUTH[:50]))
    assert got.text == TRUTH[50:]


def test_a_refusal_has_its_status_and_asks_to_wait() -> None:
    got, _ = heard(faults.refused(429, "Slow down.", "rate_limit", 2.0))
    assert (got.status, got.code, got.message) == (429, "rate_limit", "Slow down.")
    assert retry_after([(b"retry-after", got.headers["retry-after"].encode())]) == pytest.approx(2 * SCALE)


def test_a_reset_comes_before_any_head() -> None:
    got, there = heard(faults.reset)
    assert (got.status, there.reset, there.raw) == (0, True, b"")


def test_a_silent_upstream_never_answers() -> None:
    got, there = heard(faults.silent, seconds=0.1)
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
def test_what_breaks_off_says_nothing_of_an_end(script: Script, tokens: int, whole: bool) -> None:
    got, there = heard(script)
    assert len(got.text.split(" ")) == max(tokens, 1) and TRUTH.startswith(got.text)
    assert (got.finishes, got.done, got.whole, there.closed) == ((), False, whole, not whole)


def test_a_whole_answer_is_cut_short_of_what_it_promised() -> None:
    got, there = heard(faults.cut(40), request(stream=False))
    assert not got.whole and there.closed
    promised = int(got.headers["content-length"])
    assert len(there.raw.partition(b"\r\n\r\n")[2]) == promised * 2 // 3


def test_an_error_event_comes_after_so_many_tokens() -> None:
    got, there = heard(faults.error_event(20))
    assert (got.code, len(got.text.split(" ")), got.done) == ("server_error", 20, False)
    got, there = heard(faults.error_event(0))
    assert got.text == "" and b"role" not in there.raw


def test_one_event_is_no_json() -> None:
    got, _ = heard(faults.edited(faults.rubbish))
    assert (got.text, got.unreadable, got.done) == (TRUTH, 1, True)


def test_no_end_lacks_the_mark_alone() -> None:
    got, _ = heard(faults.edited(faults.no_end))
    assert (got.text, got.finishes, got.done, got.whole) == (TRUTH, ("stop",), False, True)


def test_a_finish_reason_can_tell_of_a_failure() -> None:
    got, _ = heard(faults.edited(faults.finish_error))
    assert (got.finishes, got.done) == (("error",), True) and got.text != TRUTH


@pytest.mark.parametrize("edit", [faults.bytewise, faults.crlf, faults.commented, faults.multi_line])
def test_odd_spelling_says_the_same(edit: faults.Edit) -> None:
    got, there = heard(faults.edited(edit))
    assert (got.text, got.finishes, got.done, got.counted, got.oddities) == (TRUTH, ("stop",), True, 11, ())


def test_odd_spelling_is_odd() -> None:
    plain = heard(honest)[1].raw
    for edit, sign in (
        (faults.crlf, b"}\r\r\n"),
        (faults.commented, b"\xef\xbb\xbf"),
        (faults.multi_line, b',\ndata: "'),
    ):
        raw = heard(faults.edited(edit))[1].raw
        assert sign in raw and sign not in plain
    assert heard(faults.edited(faults.bytewise))[1].raw.count(b"\r\n1\r\n") > 1000


def test_usage_can_be_missing_or_wrong() -> None:
    assert heard(faults.edited(faults.no_usage))[0].counted is None
    raw = heard(faults.edited(faults.wrong_usage))[1].raw
    found = [
        orjson.loads(payload(event) or b"0") for event in events(raw) if b'"usage":{' in event and b"many" in event
    ]
    assert found[0]["usage"] == {"prompt_tokens": -4, "completion_tokens": "many", "total_tokens": 71}


def test_a_long_line_has_no_end_for_long() -> None:
    raw = heard(faults.long_line(2))[1].raw
    assert b"x" * (1 << 18) in raw and len(raw) > 2 << 20


def test_a_page_is_html_whatever_the_status() -> None:
    for status in (200, 500):
        got, there = heard(faults.page(status))
        assert (got.status, got.headers["content-type"][:9]) == (status, "text/html") and faults.PAGE in there.raw


def test_200_can_hold_an_error_or_nothing() -> None:
    got, _ = heard(faults.error_in_200)
    assert (got.status, got.code) == (200, "server_error")
    got, there = heard(faults.empty)
    assert (got.status, got.text) == (200, "")


def test_a_prefill_is_refused_and_nothing_else() -> None:
    assert heard(faults.no_prefill, request(begun="[ab"))[0].status == 400
    assert heard(faults.no_prefill)[0].text == TRUTH


def test_a_redirect_leads_away() -> None:
    got, _ = heard(faults.redirected)
    assert (got.status, got.headers["location"]) == (307, "http://127.0.0.1:9/")


@pytest.mark.parametrize("provider", ["ollama", "anthropic"])
def test_other_dialects_break_off_as_well(provider: str) -> None:
    path = "/api/chat" if provider == "ollama" else "/v1/messages"
    full, short = heard(honest, request(path=path), provider)[1], heard(faults.cut(40), request(path=path), provider)[1]
    end = b'"done":true' if provider == "ollama" else b"message_stop"
    assert end in full.raw and end not in short.raw
    assert short.closed and full.raw.count(b"content") > short.raw.count(b"content") >= 40
