"""Variables in values, `.env` and secrets in files."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.settings.environment import Environment, first_variable, parse_line, read_environment

HERE = Path()
SET = Environment({"A": "1", "EMPTY": "", "B_C": "${A}"}, HERE)


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("${A}", "1"),
        ("x${A}y${A}z", "x1y1z"),
        ("${EMPTY}", ""),
        ("${EMPTY:-d}", "d"),
        ("${NONE:-d}", "d"),
        ("${NONE:-}", ""),
        ("${A:-d}", "1"),
        ("${NONE:-http://127.0.0.1:11434}", "http://127.0.0.1:11434"),
        ("${B_C}", "${A}"),  # what is put in is not looked at again
        ("$${A}", "${A}"),
        ("$$$${A}", "$${A}"),
        ("$$${A}", "$1"),
        ("cost: $5 $A {A}", "cost: $5 $A {A}"),
    ],
)
def test_variables_in_a_text_are_replaced(text: str, expanded: str) -> None:
    assert SET.expand(text) == expanded


@pytest.mark.parametrize("text", ["${}", "${A", "${1A}", "${A-d}", "${A:?no}", "${NONE:-${A}}", "${A B}"])
def test_malformed_variables_are_errors(text: str) -> None:
    with pytest.raises(ValueError, match="expected \\${NAME} or \\${NAME:-default}"):
        SET.expand(text)


def test_an_unset_variable_is_named() -> None:
    with pytest.raises(ValueError, match="^NONE is not set"):
        SET.expand("x ${NONE}")


@given(st.text())
def test_text_without_a_dollar_stays(text: str) -> None:
    plain = text.replace("$", "")
    assert SET.expand(plain) == plain


@given(st.text())
def test_doubled_dollars_escape_anything(text: str) -> None:
    assert SET.expand(text.replace("$", "$$")) == text


@given(st.text(), st.text().filter(lambda text: "}" not in text and "${" not in text))
def test_any_value_and_any_default_come_through(value: str, default: str) -> None:
    environment = Environment({"A": value}, HERE)
    assert environment.expand("<${A}>") == f"<{value}>"
    assert environment.expand(f"<${{NONE:-{default}}}>") == f"<{default}>"


@pytest.mark.parametrize(
    ("text", "name"),
    [("${KEY:-}", "KEY"), ("Bearer ${A}${B}", "A"), ("$${A}", None), ("$${A}${B}", "B"), ("", None), ("plain", None)],
)
def test_the_first_variable_of_a_value_is_found(text: str, name: str | None) -> None:
    assert first_variable(text) == name


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("A=1", {"A": "1"}),
        ("  export A = 1  ", {"A": "1"}),
        ("A=", {"A": ""}),
        ("A= # nothing", {"A": ""}),
        ("A=x#y # comment", {"A": "x#y"}),
        ("A=b=c", {"A": "b=c"}),
        ("A='x # $y \\n'", {"A": "x # $y \\n"}),
        ('A="x # \\"y\\" \\\\ \\n\\t" # comment', {"A": 'x # "y" \\ \n\t'}),
        ("# A=1", {}),
        ("   ", {}),
    ],
)
def test_lines_of_a_dot_env(line: str, found: dict[str, str]) -> None:
    assert parse_line(line) == found


@pytest.mark.parametrize("line", ["A", "1A=2", "=x", "A='x", 'A="x" y', "A B=1"])
def test_malformed_lines_are_errors(line: str) -> None:
    with pytest.raises(ValueError, match="expected KEY=value|quote"):
        parse_line(line)


def test_the_real_environment_wins_over_the_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("\ufeffA=file\r\nB=file\n")
    environment, problems = read_environment(tmp_path / ".env", {"A": "real"})
    assert (environment.expand("${A} ${B}"), problems) == ("real file", [])


def test_no_file_is_no_problem(tmp_path: Path) -> None:
    assert read_environment(tmp_path / ".env", {"A": "1"}) == (Environment({"A": "1"}, tmp_path), [])


def test_errors_in_the_file_have_a_line_number(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A=1\nsecret words\nB='x\n")
    _, problems = read_environment(tmp_path / ".env", {})
    assert [problem.text("config.yaml") for problem in problems] == [
        f"{tmp_path}/.env:2:1: expected KEY=value",
        f"{tmp_path}/.env:3:1: the quote is not closed, or text follows it",
    ]


def test_a_file_in_another_encoding_is_a_problem(tmp_path: Path) -> None:
    """Its position is reported; the variables on other lines are kept."""
    (tmp_path / ".env").write_bytes(b"A=1\r\nB=\xff\nC=3")
    environment, problems = read_environment(tmp_path / ".env", {})
    assert [problem.text("x") for problem in problems] == [f"{tmp_path}/.env:2:3: the file is not UTF-8"]
    assert environment.expand("${A} ${C}") == "1 3"


def test_a_secret_may_be_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("\n sk-1 \n")
    relative = Environment({"KEY_FILE": "key", "SET": "real", "SET_FILE": "key"}, tmp_path)
    absolute = Environment({"KEY_FILE": str(tmp_path / "key")}, HERE)
    assert (relative.expand("${KEY}"), absolute.expand("${KEY:-}")) == ("sk-1", "sk-1")
    assert relative.expand("${SET}") == "real"


def test_a_secret_file_that_is_missing_is_named_by_its_variable(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="^the file that KEY_FILE names cannot be read: No such file"):
        Environment({"KEY_FILE": "none"}, tmp_path).expand("${KEY:-}")


def test_a_files_name_in_the_real_environment_wins_over_the_value_in_dot_env(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("real")
    (tmp_path / ".env").write_text("KEY=file\n")
    environment, _ = read_environment(tmp_path / ".env", {"KEY_FILE": "key"})
    assert environment.expand("${KEY}") == "real"


def test_an_unreadable_folder_is_a_problem(tmp_path: Path) -> None:
    _, problems = read_environment(tmp_path / ("x" * 300) / ".env", {})
    assert [problem.message for problem in problems] == ["cannot be read: File name too long"]
