"""The card: what a reader sees of each fault, within a hundred columns."""

from dataclasses import replace
from pathlib import Path

import pytest

from proxy.planning import load_settings, plan
from proxy.selftest.card import WIDTH, as_json, caller, entry, heading, totals, upstreams
from proxy.selftest.judging import Judgement, Seen
from proxy.selftest.preparing import Options, Subject, subject
from proxy.selftest.receiving import Received
from proxy.selftest.running import Row
from proxy.selftest.wall import SIXTEEN, WALL
from proxy.selftest.words import tokens_for

ANSWER = Received(0.25, status=200, whole=True, text="".join(tokens_for("q")), finishes=("stop",), done=True)
BROKEN = replace(ANSWER, text="".join(tokens_for("q")[:40]), finishes=(), done=False, code="upstream_truncated")
PASS = Row(SIXTEEN[0], Judgement("pass"), "pass", ANSWER, "", (Seen(0, 0.0, 429), Seen(0, 2.01, 200)))
PARTIAL = Row(SIXTEEN[7], Judgement("partial", "a part, then upstream_truncated"), "partial", BROKEN)
FAIL = Row(SIXTEEN[4], Judgement("fail", "repeated " * 20), "pass", Received(0.1))
SKIPPED = Row(WALL[-1], None, "pass", note="there is nothing to leave")


@pytest.fixture
def chosen(tmp_path: Path) -> Subject:
    path = tmp_path / "config.yaml"
    path.write_text("upstreams:\n  east: {provider: openai, base_url: http://h/v1}\n  west: {provider: ollama}\n"
                    "routes:\n  - {prefix: gpt-, to: [east, west]}\n")  # fmt: skip
    return subject(plan(load_settings(path, {})), Options(scale=0.5))


def test_the_heading_says_what_is_tested(chosen: Subject) -> None:
    card = "\n".join(heading(chosen, colour=False))
    for part in (
        "gpt-…",
        '"gpt-selftest"',
        "stream_safety: live",
        "timeouts x 0.5",
        "A  east/gpt-selftest  (openai)",
        "B  west/",
    ):
        assert part in card


def test_an_entry_shows_what_the_caller_got_and_the_upstreams_saw() -> None:
    first, second = entry(PASS, colour=False)
    assert "pass" in first and SIXTEEN[0].title in first and first.endswith("0.25 s")
    assert second.split() == "caller 60 of 60 tokens, stop, [DONE] upstreams A 429 +0.00, A 200 +2.01".split()


def test_an_entry_that_is_not_a_pass_has_a_reason() -> None:
    assert "→ a part, then upstream_truncated (the best this configuration allows)" in list(entry(PARTIAL, False))[-1]
    assert "not covered: there is nothing to leave" in list(entry(SKIPPED, False))[-1]
    assert "repeated" in list(entry(FAIL, False))[-1] and "best" not in list(entry(FAIL, False))[-1]


@pytest.mark.parametrize("row", [PASS, PARTIAL, FAIL, SKIPPED])
def test_lines_fit_the_width_and_colours_do_not_change_the_text(row: Row) -> None:
    plain, painted = list(entry(row, colour=False)), "\n".join(entry(row, colour=True))
    assert all(len(line) <= WIDTH for line in plain)
    assert "\x1b" not in "".join(plain) and "\x1b[" in painted


def test_what_the_caller_got_in_words() -> None:
    assert caller(ANSWER) == "60 of 60 tokens, stop, [DONE]"
    assert caller(BROKEN) == "40 of 60 tokens, then upstream_truncated"
    assert caller(Received(0.1, status=502, code="upstream_error")) == "502 upstream_error"
    assert caller(Received(0.1)) == "nothing"


def test_what_the_upstreams_saw_in_words() -> None:
    assert upstreams([Seen(0, 0.0), Seen(1, 0.5, 200)]) == "A --- +0.00, B 200 +0.50"
    assert upstreams([Seen(0, 0.0)] * 7 + [Seen(1, 1.0)]) == "A x7 B x1 requests"
    assert upstreams([]) == "nothing"


def test_the_first_sixteen_faults_have_totals_of_their_own() -> None:
    sixteen, others = list(totals([PASS, PARTIAL, FAIL, SKIPPED], colour=False))[1:]
    assert sixteen.split() == "faults 1-16 3 run: 1 pass, 1 partial, 1 fail".split()
    assert others.split() == "other faults 1 run: 0 pass, 0 fail, 1 not covered".split()


def test_the_card_as_json_has_the_same_content(chosen: Subject) -> None:
    card = as_json(chosen, [PASS, PARTIAL, SKIPPED])
    assert card["targets"] == ["east/gpt-selftest", "west/gpt-selftest"]
    assert [each["verdict"] for each in card["faults"]] == ["pass", "partial", None]
    assert card["faults"][0]["upstreams"][1] == {"target": 0, "status": 200, "at": 2.01}
