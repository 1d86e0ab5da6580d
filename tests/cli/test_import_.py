"""The command `sluice import litellm`, as a shell sees it."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.importing.running import CONFIGS

RUN = "import argparse, sys; from proxy.cli import import_; p = argparse.ArgumentParser(); s = p.add_subparsers();"
RUN += " import_.add_parser(s); a = p.parse_args(sys.argv[1:]); sys.exit(a.run(a))"
SIMPLE, ODD = CONFIGS[0], CONFIGS[9]


def command(*arguments: str, stdin: bytes = b"") -> tuple[int, str, str]:
    """Exit code, stdout, stderr."""
    ran = subprocess.run([sys.executable, "-c", RUN, "import", *arguments], input=stdin, capture_output=True)
    return ran.returncode, ran.stdout.decode(), ran.stderr.decode()


def test_yaml_goes_to_stdout_and_findings_to_stderr() -> None:
    status, out, err = command("litellm", str(SIMPLE))
    assert status == 0
    assert out.startswith("# Imported from LiteLLM's configuration") and "api_key: ${OPENAI_API_KEY}" in out
    assert "exact        model_list[0].litellm_params.model: provider openai" in err


def test_strict_fails_where_something_was_left_out() -> None:
    assert command("litellm", str(SIMPLE), "--strict")[0] == 0
    status, out, err = command("litellm", str(ODD), "--strict")
    assert status == 1 and "upstreams:" in out and "unsupported" in err
    assert command("litellm", str(ODD))[0] == 0


def test_it_reads_stdin() -> None:
    assert command("litellm", "-", stdin=SIMPLE.read_bytes())[1] == command("litellm", str(SIMPLE))[1]


@pytest.mark.parametrize("content", [b"a: [", b"\xff\xfe", b"[]", b"{}"])
def test_bad_input_is_exit_code_2(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    status, out, err = command("litellm", str(path))
    assert (status, out) == (2, "") and str(path) in err


def test_no_file_is_exit_code_2(tmp_path: Path) -> None:
    assert command("litellm", str(tmp_path / "none.yaml"))[0] == 2


def test_nothing_usable_is_exit_code_1() -> None:
    status, out, err = command("litellm", "-", stdin=b"model_list: []")
    assert (status, out) == (1, "") and "no model of it can be brought over" in err
