"""The wall against a real Sluice on real sockets: nothing fails, and what should be caught is caught."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.planning import load_settings, plan
from proxy.selftest import faults
from proxy.selftest.judging import RANK, SLACK
from proxy.selftest.preparing import Options, Subject, subject
from proxy.selftest.running import Row, run_fault, run_wall
from proxy.selftest.wall import SIXTEEN, WALL, Fault

CONFIG = """
access: {keys: required, client_keys: [sk-mine]}
upstreams:
  east: {provider: openai, base_url: "https://east.example.com/v1", api_key: ""}
  router: {provider: openrouter, api_key: sk-router}
  ollama: {provider: ollama}
  claude: {provider: anthropic, api_key: sk-ant}
routes:
  - prefix: gpt-
    to: [east, "router/openai/{model}"]
  - model: mixed
    to: [ollama/llama3.2, claude/claude-sonnet]
"""


def chosen(folder: Path, options: Options) -> Subject:
    path = folder / "config.yaml"
    path.write_text(CONFIG)
    return subject(plan(load_settings(path, {})), options)


def rows(of: Subject, wall: Sequence[Fault]) -> list[Row]:
    finished: list[Row] = []
    found = asyncio.run(run_wall(of, wall, finished.append))
    assert sorted(row.fault.number for row in finished) == [row.fault.number for row in found]
    return found


def below(found: Sequence[Row]) -> dict[str, str]:
    """What came out worse than it must."""
    return {
        f"{row.fault.number} {row.fault.title}": f"{row.judgement.verdict}: {row.judgement.reason}"
        for row in found
        if row.judgement is not None and RANK[row.judgement.verdict] > RANK[row.best]
    }


def test_the_whole_wall_in_live_fails_nowhere(tmp_path: Path) -> None:
    found = rows(chosen(tmp_path, Options("gpt-4o", "live", 0.05)), WALL)
    assert {name: why for name, why in below(found).items() if why.startswith("fail")} == {}
    passed = {row.fault.number for row in found if row.judgement and row.judgement.verdict == "pass"}
    assert {1, 2, 3, 4, 5, 6, 7, 11, 12, 13, 15, 16} <= passed
    partial = {row.fault.number for row in found if row.judgement and row.judgement.verdict == "partial"}
    assert {8, 9, 14} <= partial, "in live a stream that breaks can be no better"


@pytest.mark.parametrize("safety", ["resume", "whole"])
def test_streams_survive_a_cut(tmp_path: Path, safety: str) -> None:
    of = chosen(tmp_path, Options("gpt-4o", safety, 0.05))
    assert below(rows(of, [fault for fault in SIXTEEN if fault.number in (8, 14)])) == {}


def test_upstreams_of_other_providers_fail_in_their_own_dialect(tmp_path: Path) -> None:
    quick = [fault for fault in WALL if fault.number in (1, 2, 3, 4, 5, 8, 11, 16, 20, 25)]
    found = rows(chosen(tmp_path, Options("mixed", "live", 0.05)), quick)
    assert [row.fault.number for row in found if row.judgement is None] == [11], "Ollama has no such thing"
    assert {name: why for name, why in below(found).items() if why.startswith("fail")} == {}


def test_a_fault_that_is_not_survived_fails(tmp_path: Path) -> None:
    """The judge is not blind: where all targets fail it is no pass, and an error that says something else is a fail."""
    of = chosen(tmp_path, Options("gpt-4o", "live", 0.05))
    down = faults.refused(503, "Down.")
    everybody = replace(SIXTEEN[3], others=down)
    (row,) = rows(of, [everybody])
    assert row.judgement and row.judgement.verdict == "safe" and row.received and row.received.status == 503
    wrong = replace(everybody, expects=replace(everybody.expects, codes=frozenset({"upstream_timeout"})))
    (row,) = rows(of, [wrong])
    assert row.judgement and row.judgement.verdict == "fail" and "wrong error" in row.judgement.reason


def test_a_time_limit_that_is_too_short_shows_as_a_hang(tmp_path: Path) -> None:
    of = chosen(tmp_path, Options("gpt-4o", "live", 0.05))
    timeouts = replace(of.terms.policies.timeouts, total=0.2 - SLACK)  # the caller waits for 0.2 s
    hasty = replace(of, terms=replace(of.terms, policies=replace(of.terms.policies, timeouts=timeouts)))
    row = asyncio.run(run_fault(hasty, SIXTEEN[5]))  # silence
    assert row.judgement and row.judgement.verdict == "fail" and "not ended after" in row.judgement.reason
