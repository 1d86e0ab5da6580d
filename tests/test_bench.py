"""The bench: its C sources compile without a warning, speak HTTP to each other, and its figures are right."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.figures import Goal, judged, medians, most_that_pass
from bench.processes import BenchError
from bench.rows import ROWS, Body, chosen
from bench.targets import build, sluice_config
from tests.settings.facts import loaded

needs_cc = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler here")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    build(folder)  # with -Wall -Wextra -Werror
    return folder


@pytest.fixture
def port(built: Path) -> Iterator[str]:
    process = subprocess.Popen([built / "upstream"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield process.stdout.readline().split()[1]
    process.terminate()
    process.wait()
    process.stdout.close()


def press(built: Path, port: str, path: str, body: Path) -> dict[str, Any]:
    """What the load generator counts in a fifth of a second on four connections."""
    command = [str(built / "load"), "-p", port, "-u", path, "-b", str(body), "-c", "4", "-d", "0.2", "-k", "key"]
    said: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return said


@needs_cc
@pytest.mark.parametrize("body", [Body(), Body(size=32768), Body(events=7), Body(events=3, pace=5)])
def test_load_and_upstream_count_the_same(built: Path, port: str, tmp_path: Path, body: Body) -> None:
    said = press(built, port, "/v1/chat/completions", body.write(tmp_path))
    assert said["failed"] == said["broken"] == said["error_events"] == said["unfinished"] == 0
    assert said["statuses"] == {"200": said["all_requests"]}
    assert said["requests"] > 0
    assert said["all_events"] == said["all_requests"] * body.events
    assert said["connects"] == 4  # kept alive
    assert (said["event_delay"] is None) == (body.events == 0)


@needs_cc
def test_a_stream_that_never_says_done_is_broken(built: Path, port: str, tmp_path: Path) -> None:
    said = press(built, port, "/v1/messages", Body(events=2).write(tmp_path))  # Anthropic's streams have no [DONE]
    assert said["requests"] == 0
    assert said["failed"] == said["broken"] == said["all_requests"] > 0


@pytest.mark.parametrize("size", [1024, 32768])
def test_bodies_have_the_size_that_is_said(tmp_path: Path, size: int) -> None:
    assert Body(size=size).write(tmp_path).stat().st_size == size
    assert Body("rule-4o", size, events=64).write(tmp_path).stat().st_size == size


def test_the_config_is_one_that_sluice_takes(tmp_path: Path) -> None:
    settings = loaded(tmp_path, sluice_config(9000, ("ollama", "anthropic"), more_routes=3).replace("{port}", "8080"))
    assert [route.prefix for route in settings.routes] == ["gpt-", "rule-", "more-0000-", "more-0001-", "more-0002-"]


@pytest.mark.parametrize("limit", [1, 7, 63, 64, 65, 300, 1000])
def test_the_search_finds_the_limit(limit: int) -> None:
    asked: list[int] = []

    def passes(number: int) -> bool:
        asked.append(number)
        return number <= limit

    found = most_that_pass(passes, 64, 4096, 1.05)
    assert found <= limit <= found * 1.05
    assert len(asked) == len(set(asked)) <= 14


def test_the_search_ends_at_both_ends() -> None:
    assert most_that_pass(lambda _: False, 64, 4096, 1.05) == 0
    assert most_that_pass(lambda _: True, 64, 4096, 1.05) == 4096
    assert most_that_pass(lambda _: True, 64, 10, 1.05) == 10


def test_each_round_is_judged_by_itself() -> None:
    rounds = [{"nginx": 100.0, "sluice": 50.0}, {"nginx": 10.0, "sluice": 6.0}, {"nginx": 200.0, "sluice": 20.0}]
    assert medians(rounds) == {"nginx": 100.0, "sluice": 20.0}
    assert judged(Goal("ratio", 0.25, "nginx"), rounds) == 0.5
    assert judged(Goal("difference", 1.0, "nginx"), rounds) == -50.0
    assert judged(Goal("value", 1.0), rounds) == 20.0
    assert judged(Goal("ratio", 0.25, "nginx"), [{"sluice": 1.0}]) is None
    assert judged(Goal("ratio", 0.25, "nginx"), [{"sluice": 1.0, "nginx": 0.0}]) is None


def test_a_goal_is_a_floor_for_ratios_and_a_ceiling_for_the_rest() -> None:
    assert Goal("ratio", 0.25, "nginx").met(0.25) and not Goal("ratio", 0.25, "nginx").met(0.2)
    assert Goal("value", 70).met(70) and not Goal("value", 70).met(71)


def test_rows_are_chosen_by_name() -> None:
    assert chosen([]) == list(ROWS)
    assert [row.name for row in chosen(["W3", "W1"])] == ["W1", "W3"]
    assert [row.name for row in chosen(["Wo"])] == ["Wo1", "Wo3"]
    with pytest.raises(BenchError, match="W9"):
        chosen(["W9"])
