"""The JSON Schema that editors get."""

import json
import re
from typing import Any

import pytest

from proxy.settings import json_schema

PARTS: dict[str, Any] = json.loads(json.dumps(json_schema()))["$defs"]


def test_only_upstreams_are_required_and_nothing_unknown_is_allowed() -> None:
    schema = json_schema()
    assert schema["required"] == ["upstreams"] and schema["additionalProperties"] is False
    assert PARTS["UpstreamSettings"]["required"] == ["provider"]
    assert PARTS["RouteSettings"]["required"] == ["to"]


@pytest.mark.parametrize(
    ("part", "key", "default", "wrong"),
    [
        ("ServerTimeouts", "header", "10s", "10"),
        ("Timeouts", "total", "1h", "1d"),
        ("Retry", "backoff", "250ms", "x250ms"),
        ("Retry", "budget", "20%", "20"),
        ("Server", "max_body", "20MB", "20mb"),
    ],
)
def test_values_with_units_are_text(part: str, key: str, default: str, wrong: str) -> None:
    field = PARTS[part]["properties"][key]
    assert (field["type"], field["default"]) == ("string", default)
    assert re.search(field["pattern"], default) and re.search(field["pattern"], "${NAME:-x}")
    assert not re.search(field["pattern"], wrong)


def test_numbers_may_come_from_variables() -> None:
    assert PARTS["Server"]["properties"]["port"]["anyOf"] == [
        {"type": "integer"},
        {"type": "string", "pattern": "\\$\\{"},
    ]


def test_a_target_may_be_written_in_each_way() -> None:
    assert [option.get("type", "mapping") for option in PARTS["RouteSettings"]["properties"]["to"]["anyOf"]] == [
        "string",
        "mapping",
        "array",
    ]


def test_no_keyword_is_unknown_to_json_schema() -> None:
    known = {"default", "description", "type", "pattern", "anyOf", "$ref", "items", "enum", "minLength", "minItems"}
    known |= {"additionalProperties", "propertyNames"}
    for name, part in PARTS.items():
        for key, field in part["properties"].items():
            assert set(field) <= known, f"{name}.{key}"
