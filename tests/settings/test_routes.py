"""The ways to write a target."""

import pytest
from pydantic import ValidationError

from proxy.settings.routes import RouteSettings


@pytest.mark.parametrize(
    ("to", "targets"),
    [
        ("ollama", [("ollama", None)]),
        ("ollama/", [("ollama", None)]),
        ("openrouter/anthropic/claude", [("openrouter", "anthropic/claude")]),
        (["a", "b/x/{model}", "c/{rest}:free"], [("a", None), ("b", "x/{model}"), ("c", "{rest}:free")]),
        ({"upstream": "a", "model": "m"}, [("a", "m")]),
        ([{"upstream": "a"}, "b"], [("a", None), ("b", None)]),
    ],
)
def test_every_notation_of_a_target_is_accepted(to: object, targets: list[tuple[str, str | None]]) -> None:
    route = RouteSettings.model_validate({"prefix": "p", "to": to})
    assert [(target.upstream, target.model) for target in route.to] == targets
    assert all(target.weight is None for target in route.to)


@pytest.mark.parametrize("to", [[], "", "/x", [5], 5, None, "a/{name}", "a/{", "a/x}", {"upstream": "a", "weight": 0}])
def test_invalid_targets_are_errors(to: object) -> None:
    with pytest.raises(ValidationError):
        RouteSettings.model_validate({"prefix": "p", "to": to})
