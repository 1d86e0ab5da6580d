"""Problems, their places and their words."""

from proxy.settings.problems import ConfigError, Findings, Mark, Problem, dotted, suggestion


def test_an_error_has_a_line_for_each_problem_in_the_order_of_the_file() -> None:
    error = ConfigError(
        "config.yaml",
        [
            Problem(12, 5, "upstreams.local.provider", "expected text"),
            Problem(2, 1, "", "broken"),
            Problem(0, 0, "server.port", "expected a number"),
            Problem(3, 1, "", "expected KEY=value", ".env"),
        ],
    )
    assert str(error).split("\n") == [
        "config.yaml: server.port: expected a number",
        "config.yaml:2:1: broken",
        "config.yaml:12:5: upstreams.local.provider: expected text",
        ".env:3:1: expected KEY=value",
    ]
    assert [problem.line for problem in error.problems] == [0, 2, 12, 3]


def test_a_problem_is_always_one_line() -> None:
    problem = Problem(1, 2, "a\x1b[31m", 'expected text, got "one\ntwo\u2028é家 \udce9"')
    assert problem.text("f") == r'f:1:2: a\x1b[31m: expected text, got "one\ntwo\u2028é家 \udce9"'


def test_a_finding_has_the_position_of_its_path_or_nearest_parent() -> None:
    findings = Findings({(): Mark(1, 1), ("a",): Mark(2, 1), ("a", 0): Mark(2, 5)})
    for path in (("a", 0), ("a", "b"), ("c",)):
        findings.add(path, "wrong")
    assert [(problem.line, problem.column, problem.path) for problem in findings.found.values()] == [
        (2, 5, "a.0"),
        (2, 1, "a.b"),
        (1, 1, "c"),
    ]


def test_the_first_problem_of_a_path_is_the_one_that_counts() -> None:
    findings = Findings()
    findings.add(("a", "b"), "cause")
    findings.add(("a", "b"), "consequence")
    assert [problem.message for problem in findings.found.values()] == ["cause"]
    assert findings.inside(("a",)) and findings.inside(("a", "b")) and not findings.inside(("a", "c"))


def test_paths_are_dotted_and_near_names_suggested() -> None:
    assert dotted(("routes", 0, "to")) == "routes.0.to"
    assert suggestion("opnai", ["openai", "openrouter", "ollama"]) == '; did you mean "openai"?'
    assert suggestion("x", ["openai"]) == ""
