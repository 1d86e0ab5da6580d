"""Every command says what it is for, and what is wrong with what it was given."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.cli import main

COMMANDS = ("serve", "check", "explain", "models", "selftest", "bench", "import", "healthcheck")


@pytest.fixture(autouse=True)
def restored_signals() -> Iterator[None]:
    """`serve` changes how this process handles SIGTERM."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def ended(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int | str | None, str]:
    """The exit code, and what was printed on either side."""
    try:
        status: int | str | None = main(words)
    except SystemExit as end:
        status = end.code
    printed = capsys.readouterr()
    return status, printed.out + printed.err


@pytest.mark.parametrize("command", COMMANDS)
def test_help_says_what_a_command_does(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, printed = ended(capsys, command, "--help")
    assert status == 0
    assert f"`sluice {command}" in printed


@pytest.mark.parametrize("words", [(), ("nonsense",), ("check", "a", "b"), ("explain",), ("import", "foo", "x")])
def test_invalid_command_lines_are_bad_input(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    status, printed = ended(capsys, *words)
    assert status == 2
    assert "usage: sluice" in printed


def test_a_file_that_is_not_there_is_named_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, missing = tmp_path / "config.yaml", tmp_path / "none.json"
    config.write_text('upstreams: {a: {provider: openai, base_url: "http://127.0.0.1:1/v1"}}')
    words = ("explain", "a/b", "--config", str(config), "--body", str(missing))
    assert ended(capsys, *words) == (2, f"{missing}: cannot be read: No such file or directory\n")
    assert ended(capsys, "check", str(missing)) == (2, f"{missing}: cannot be read: No such file or directory\n")
