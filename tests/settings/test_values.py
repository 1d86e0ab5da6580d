"""The kinds of values, as pydantic takes them."""

from collections.abc import Mapping

import pytest
from pydantic import ConfigDict, TypeAdapter, ValidationError

from proxy.settings import values

STRICT = ConfigDict(strict=True)
HEADERS = TypeAdapter[Mapping[str, str]](values.Headers)


@pytest.mark.parametrize(
    ("kind", "given", "value"),
    [
        (values.Whole, 5, 5),
        (values.Whole, "-5", -5),
        (values.Number, "0.5", 0.5),
        (values.Flag, "true", True),
        (values.Flag, False, False),
        (values.Many[str], ["a"], ("a",)),
        (values.Duration, "5s", 5.0),
        (values.Dotted, "a\\..b", "a\\..b"),
    ],
)
def test_valid_values_are_converted(kind: type[object], given: object, value: object) -> None:
    assert TypeAdapter(kind, config=STRICT).validate_python(given) == value


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (values.Whole, 5.5),
        (values.Whole, "x"),
        (values.Whole, "٥"),
        (values.Flag, "yes"),
        (values.Flag, 1),
        (values.Number, "nan"),
        (values.Wait, "0s"),
        (values.Duration, 5),
        (values.Name, ""),
        (values.Dotted, ""),
        (values.Dotted, "a..b"),
        (values.Dotted, "a."),
        (values.HeaderName, "x y"),
        (values.HeaderName, "Host"),
    ],
)
def test_invalid_values_are_errors(kind: type[object], given: object) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(kind, config=STRICT).validate_python(given)


def test_header_names_are_in_lower_case() -> None:
    assert HEADERS.validate_python({"X-Team": "search é"}) == {"x-team": "search é"}


@pytest.mark.parametrize(
    "headers",
    [
        {"x": "a\r\nb: c"},
        {"x": "\x00"},
        {"x": "€"},
        {"x:": "a"},
        {"": "a"},
        {"Content-Length": "1"},
        {"X-Team": "a", "x-team": "b"},
    ],
)
def test_headers_that_would_break_a_request_are_refused(headers: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        HEADERS.validate_python(headers)
