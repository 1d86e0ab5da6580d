"""YAML as plain data with places, without its traps."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.settings.problems import Mark
from proxy.settings.yaml_tree import YamlError, read_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("-5", -5),
        ("0", 0),
        ("0.5", 0.5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ('"5"', "5"),
        ("!!str 5", "5"),
        ("true", True),
        ("no", False),
        ("On", True),
        ('"no"', "no"),
        ("~", None),
        ("", None),
        ("2024-08-06", "2024-08-06"),
        ("08", "08"),
        ("=", "="),
        ("x: y", {"x": "y"}),
        ("| \n two\n lines", "two\nlines"),
        ("[a, b]", ["a", "b"]),
        ("[${A:-}, x/{model}, '{rest}', \"${B:-[x]}\"]", ["${A:-}", "x/{model}", "{rest}", "${B:-[x]}"]),
        ("{k: ${A:-b,c}}", {"k": "${A:-b,c}"}),
    ],
)
def test_scalars_are_read_without_yamls_traps(text: str, value: object) -> None:
    tree = read_yaml(f"key: {text}" if ": " not in text or text.startswith("{") else text)
    assert tree.findings.found == {}
    assert tree.data == ({"key": value} if not isinstance(value, dict) or "k" in value else value)


@pytest.mark.parametrize(
    "text", ["0123", "0x1F", "0b1", "1_000", "12:30", "1:30:00.5", ".inf", "-.INF", ".nan", "9" * 19]
)
def test_ambiguous_numbers_are_errors(text: str) -> None:
    tree = read_yaml(f"a:\n  b: {text}\n")
    problem = tree.findings.found["a", "b"]
    assert (problem.line, problem.column, problem.path) == (2, 3, "a.b")
    assert problem.message.startswith(f"{text} is not a plain decimal number")


def test_keys_are_text_as_written() -> None:
    assert read_yaml("{no: 1, 0123: 2, 1.10: 3}").data == {"no": 1, "0123": 2, "1.10": 3}


def test_marks_are_those_of_keys_and_items() -> None:
    marks = read_yaml("# c\na:\n  b: no\n  c: [x, {d: 1}]\n").marks
    assert marks["a", "b"] == Mark(3, 3, "true or false", "no")
    assert marks["a", "c"] == Mark(4, 3, "a list")
    assert marks["a", "c", 0] == Mark(4, 7, "text", "x")
    assert marks["a", "c", 1] == Mark(4, 10, "a mapping")
    assert marks["a", "c", 1, "d"] == Mark(4, 11, "a number", "1")


def test_variables_in_brackets_do_not_shift_columns() -> None:
    marks = read_yaml("a: [${A:-x,y}, b]\n").marks
    assert marks["a", 0] == Mark(1, 5, "text", "${A:-x,y}")
    assert marks["a", 1] == Mark(1, 16, "text", "b")


QUOTES = "put texts that begin with ! in quotes"


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", (3, 1), "duplicate key, first on line 1"),
        ("a:\n  x: 1\n  'x': 2\n", (3, 3), "duplicate key, first on line 2"),
        ("a: !thing x\n", (1, 1), f"YAML tags such as !thing are not supported: {QUOTES}"),
        ("a: !!set {x}\n", (1, 1), f"YAML tags such as !!set are not supported: {QUOTES}"),
        ("api_key: !hidden\n", (1, 1), f"YAML tags such as this are not supported: {QUOTES}"),
        ("? [a]\n: b\n", (1, 3), "keys must be text"),
        ("? \n: b\n", (1, 2), "keys must be text"),
        ("a: &a [1]\nb: {<<: *a}\n", (1, 8), "<< can merge only mappings"),
        ("a: &a {x: 1}\nb:\n  <<: *a\n  <<: *a\n", (4, 3), "duplicate key, first on line 3"),
    ],
)
def test_ambiguous_yaml_is_reported_with_its_place(text: str, place: tuple[int, int], message: str) -> None:
    (problem,) = read_yaml(text).findings.found.values()
    assert ((problem.line, problem.column), problem.message) == (place, message)


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("a: 1\n\tb: 2\n", (2, 1), "a tab where YAML allows only spaces"),
        ("a: [1,\nb: 2\n", (1, 4), "a bracket or brace is not closed"),
        ("a: [1}\n", (1, 6), "while parsing a flow sequence: expected ',' or ']', but got '}'"),
        ("a: b: c\n", (1, 5), 'unexpected colon: check the indentation, and quote texts that contain ": "'),
        ('a: "x\n', (1, 4), "a quote is not closed"),
        ("a:\n  b: 1\n c: 2\n", (3, 2), "expected the end of this entry: check indentation, dashes and quotes"),
        ("a: 1\n---\nb: 2\n", (2, 1), "expected a single document, but a second one begins here"),
        ("a: *hidden\n", (1, 4), "an alias that is not defined: put texts that begin with * in quotes"),
        ("a: !hidden!too\n", (1, 4), f"YAML tags are not supported: {QUOTES}"),
        ("a: 1\nb: \x00\n", (2, 4), "the character U+0000 is not allowed"),
        ("a: &a [*a]\n", (1, 4), "too many aliases, or nested too deeply"),
        ("a: &a {<<: *a}\n", (1, 1), "nested too deeply"),
        ("[" * 1500, (1, 1), "nested too deeply"),
    ],
)
def test_invalid_yaml_is_one_problem_with_its_position(text: str, place: tuple[int, int], message: str) -> None:
    with pytest.raises(YamlError) as caught:
        read_yaml(text)
    assert ((caught.value.problem.line, caught.value.problem.column), caught.value.problem.message) == (place, message)


def test_aliases_are_copies_and_merges_go_below() -> None:
    tree = read_yaml("a: &a {x: 1, y: {z: 2}}\nb: *a\nc: {<<: *a, x: 3}\nd: {<<: [{x: 4}, *a]}\n")
    assert tree.findings.found == {}
    assert tree.data["b"] == tree.data["a"] and tree.data["b"] is not tree.data["a"]
    assert (tree.data["c"], tree.data["d"]) == ({"x": 3, "y": {"z": 2}}, {"x": 4, "y": {"z": 2}})
    assert tree.marks["c", "x"].line == 3


def test_an_alias_bomb_is_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    with pytest.raises(YamlError, match="too many aliases"):
        read_yaml("\n".join(lines))


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n"])
def test_an_empty_document_has_no_data(text: str) -> None:
    assert read_yaml(text).data is None


@given(st.text() | st.text(alphabet="ab:-[]{}&*!|>'\"%#$,?\n\t ~01"))
def test_any_text_is_data_or_one_problem(text: str) -> None:
    try:
        read_yaml(text)
    except YamlError as error:
        assert error.problem.line >= 1 and error.problem.column >= 1


def test_a_long_file_is_not_taken_for_a_bomb_of_aliases() -> None:
    assert len(read_yaml(f"[{'1,' * 25_000}]").data) == 25_000
    with pytest.raises(YamlError, match="too many aliases"):
        read_yaml("a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
            f"{name}: &{name} [{','.join([f'*{below}'] * 10)}]\n" for below, name in zip("abcde", "bcdef", strict=True)
        ))  # fmt: skip
