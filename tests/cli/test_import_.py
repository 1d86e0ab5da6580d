"""The command `sluice import litellm`, as a shell sees it."""

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.cli import import_
from tests.importing.running import CONFIGS

ROOT = Path(__file__).parents[2]
SIMPLE, ODD = CONFIGS[0], CONFIGS[9]
Captured = pytest.CaptureFixture[str]


def command(*arguments: str) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser()
    import_.add_parser(parser.add_subparsers())
    parsed = parser.parse_args(["import", *arguments])
    status: int = parsed.run(parsed)
    return status


def test_yaml_goes_to_stdout_and_findings_to_stderr(capsys: Captured) -> None:
    assert command("litellm", str(SIMPLE)) == 0
    printed = capsys.readouterr()
    assert (
        printed.out.startswith("# Imported from LiteLLM's configuration")
        and "api_key: ${OPENAI_API_KEY}" in printed.out
    )
    assert "exact        model_list[0].litellm_params.model: provider openai" in printed.err


def test_strict_fails_where_something_was_left_out(capsys: Captured) -> None:
    assert command("litellm", str(SIMPLE), "--strict") == 0
    assert command("litellm", str(ODD)) == 0
    capsys.readouterr()
    assert command("litellm", str(ODD), "--strict") == 1
    printed = capsys.readouterr()
    assert "upstreams:" in printed.out and "unsupported" in printed.err


BOMB = b"a0: &a0 [1]\n" + b"".join(
    b"a%d: &a%d [%b]\n" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 9)) for n in range(1, 9)
)


@pytest.mark.parametrize(
    "content",
    [b"a: [", b"\xff\xfe", b"[]", b"{}", BOMB + b"model_list: []", b"a: &a [*a]\nmodel_list: []"],
    ids=["yaml", "utf-8", "list", "models", "bomb", "itself"],
)
def test_bad_input_is_exit_code_2(tmp_path: Path, content: bytes, capsys: Captured) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    assert command("litellm", str(path)) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and str(path) in printed.err


def test_yaml_is_utf_8_both_ways_whatever_the_terminal_has() -> None:
    given = "\ufeffmodel_list: [{model_name: 家, litellm_params: {model: openai/m, api_base: http://x}}]"
    command = [sys.executable, "-m", "proxy", "import", "litellm", "-"]
    environ = {"PYTHONIOENCODING": "iso-8859-1"}
    done = subprocess.run(command, cwd=ROOT, env=environ, input=given.encode(), capture_output=True, timeout=30)
    assert done.returncode == 0 and "- model: 家\n" in done.stdout.decode()


def test_no_file_is_exit_code_2(tmp_path: Path) -> None:
    assert command("litellm", str(tmp_path / "none.yaml")) == 2


def test_nothing_usable_is_exit_code_1(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "config.yaml").write_text("model_list: []")
    assert command("litellm", str(tmp_path / "config.yaml")) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and "none of its models can be converted" in printed.err
