"""`sluice selftest` as a command: options, exit codes, the card and its JSON."""

import argparse
from pathlib import Path

import orjson
import pytest

from proxy.cli import selftest
from proxy.settings import ConfigError

CONFIG = """
upstreams:
  east: {provider: openai, base_url: "https://east.example.com/v1"}
  west: {provider: openai, base_url: "https://west.example.com/v1"}
routes:
  - {prefix: gpt-, to: [east, west]}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    return path


def run(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    selftest.add_parser(parser.add_subparsers())
    parsed = parser.parse_args(["selftest", *map(str, arguments)])
    status: int = parsed.run(parsed)
    return status


def test_it_prints_a_card(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(config, "--only", "3,8", "--clock-scale", "0.05") == 0
    printed, complaints = capsys.readouterr()
    lines = printed.splitlines()
    assert lines[0] == "Sluice self-test" and '"gpt-selftest"' in lines[1]
    assert any(line.startswith("  3  pass     500 once") for line in lines)
    assert any(line.startswith("  8  partial  closed after 40 of 60 tokens") for line in lines)
    assert lines[-1].split() == "faults 1-16 2 run: 1 pass, 1 partial, 0 fail".split()
    assert "\x1b" not in printed and complaints == ""


def test_strict_accepts_only_passes(config: Path) -> None:
    assert run(config, "--only", "8", "--clock-scale", "0.05", "--strict") == 1
    assert run(config, "--only", "8", "--clock-scale", "0.05", "--strict", "--safety", "whole") == 0


def test_the_card_as_json(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(config, "--only", "4", "--route", "gpt-4o", "--clock-scale", "0.05", "--json", tmp_path / "card") == 0
    card = orjson.loads((tmp_path / "card").read_bytes())
    assert (card["model"], card["faults"][0]["verdict"], card["clock_scale"]) == ("gpt-4o", "pass", 0.05)
    capsys.readouterr()
    assert run(config, "--only", "4", "--clock-scale", "0.05", "--json", "-") == 0
    assert orjson.loads(capsys.readouterr().out)["faults"][0]["number"] == 4


def test_unknown_models_and_faults_are_bad_input(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(config, "--route", "nobody") == 2
    assert "No route matches the model" in capsys.readouterr().err
    assert run(config, "--only", "99") == 2
    capsys.readouterr()
    assert run(config, "--only", "4", "--json", tmp_path) == 2
    assert capsys.readouterr() == ("", f"{tmp_path}: cannot be written: Is a directory\n"), "and nothing was run"
    config.write_text(CONFIG.replace('com/v1"}', 'com/v1", models: [gpt-4o]}'))
    assert run(config, "--route", "gpt-4") == 2
    assert "has no model 'gpt-4'. Did you mean gpt-4o?" in capsys.readouterr().err
    with pytest.raises(ConfigError):  # exit code 2, by the command's own main
        run(tmp_path / "missing.yaml")
    for option, wrong in (("clock-scale", "0"), ("clock-scale", "2"), ("clock-scale", "fast"), ("only", "few")):
        with pytest.raises(SystemExit) as ended:
            run(config, f"--{option}", wrong)
        assert ended.value.code == 2
        printed = capsys.readouterr().err
        assert f"--{option}: expected" in printed and f"got '{wrong}'" in printed
