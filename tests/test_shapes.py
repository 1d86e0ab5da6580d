"""Foreign JSON read by shape."""

from typing import Any

import pytest

from proxy.shapes import list_of, object_of, string_of


@pytest.mark.parametrize("value", [None, True, 0, 1.5, "", "text", [], [1], {}, {"a": 1}])
def test_a_value_of_another_shape_is_an_empty_one(value: Any) -> None:
    assert object_of(value) == (value if isinstance(value, dict) else {})
    assert list_of(value) == (value if isinstance(value, list) else [])
    assert string_of(value) == (value if isinstance(value, str) else "")
