"""Data into settings, and what is left of data that is partly wrong."""

from typing import Any

import pytest

from proxy.settings.problems import Findings, Mark
from proxy.settings.shaping import DROPPED, drop, got, keys_at, original, shape
from proxy.settings.yaml_tree import read_yaml


def test_valid_parts_are_kept_and_every_error_is_found() -> None:
    text = """
upstreams:
  a: {provider: ollama, modls: [x]}
  b: {base_url: x}
routes:
  - {prefix: x, to: 5}
  - {prefix: y, to: a, retry: {attempts: 0}}
  - 7
  - {prefix: z, to: [a, 5, a/m]}
"""
    tree = read_yaml(text)
    settings = shape(tree.data, tree.findings)
    assert settings is not None
    assert list(settings.upstreams) == ["a"]
    assert [route.prefix for route in settings.routes] == ["y", "z"]
    assert [target.model for target in settings.routes[1].to] == [None, "m"]
    assert {problem.path: problem.message for problem in tree.findings.found.values()} == {
        "upstreams.a.modls": 'unknown key; did you mean "models"?',
        "upstreams.b.provider": "this key is required",
        "routes.0.to": "expected an upstream, upstream/model or a mapping, got 5: put it in quotes",
        "routes.1.retry.attempts": "expected at least 1, got 0",
        "routes.2": "expected a mapping, got 7",
        "routes.3.to.1": "expected an upstream, upstream/model or a mapping, got 5: put it in quotes",
    }
    assert original(("routes", 1, "to", 1), tree.data) == ("routes", 3, "to", 2)


@pytest.mark.parametrize("data", [None, [], "x", {}, {"upstreams": None}, {"upstreams": []}])
def test_without_upstreams_nothing_is_left(data: Any) -> None:
    findings = Findings()
    assert shape(data, findings) is None
    assert len(findings.found) == 1


def test_dropping_keeps_the_numbers_of_a_list() -> None:
    data = {"a": [1, {"b": 2}, 3]}
    assert drop(data, ("a", 0)) and drop(data, ("a", 1, "b")) and drop(data, ("a", 1, "b", "c")) and drop(data, ("x",))
    assert data == {"a": [DROPPED, {}, 3]}
    assert not drop(data, ())
    assert original(("a", 1), data) == ("a", 2)


@pytest.mark.parametrize(
    ("path", "known"),
    [
        ((), "upstreams"),
        (("server", "timeouts"), "header"),
        (("upstreams", "x"), "base_url"),
        (("upstreams", "provider", "limits", "m"), "context"),
        (("upstreams", "x", "breaker"), "open_for"),
        (("routes", 0, "to", 0), "weight"),
        (("routes", 0, "to"), "weight"),
        (("routes", 0, "request", "headers"), "remove"),
        (("cache", "similar"), "embedder"),
        (("vapi", "tools", "lookup"), "timeout"),
    ],
)
def test_the_keys_known_at_a_path(path: tuple[str | int, ...], known: str) -> None:
    assert known in keys_at(path)


@pytest.mark.parametrize(
    ("key", "mark", "shown"),
    [
        ("provider", Mark(1, 1, "text", "x"), 'got "x"'),
        ("provider", Mark(1, 1, "text", "${KEY}"), 'got "${KEY}"'),
        ("provider", Mark(1, 1, "true or false", "no"), "got no, which YAML reads as false"),
        ("provider", Mark(1, 1, "true or false", "true"), "got true"),
        ("provider", Mark(1, 1, "a number", "5"), "got 5"),
        ("provider", Mark(1, 1, "nothing"), "got nothing"),
        ("provider", Mark(1, 1, "text", "x" * 61), f'got "{"x" * 57}..."'),
        ("api_key", Mark(1, 1, "a number", "5"), "got a number"),
        ("api_key", Mark(1, 1, "text", "sk"), "got text"),
    ],
)
def test_values_are_quoted_unless_they_may_be_secrets(key: str, mark: Mark, shown: str) -> None:
    assert got((key,), mark) == shown
