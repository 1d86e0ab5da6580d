"""The value types of config.yaml, as pydantic types."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from proxy import units

T = TypeVar("T")

_VARIABLE: Final = r"\$\{"
_MOST_ITEMS: Final = 1000  # largest list index in a path
_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
FRAMING: Final = frozenset({"host", "connection", "content-length", "transfer-encoding", "te", "upgrade", "trailer"})
"""Headers that belong to the connection."""


class Part(BaseModel):
    """A mapping of config.yaml: frozen, without unknown keys or type coercion."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)


def _whole(value: object) -> object:
    """Variables are text, so digits count as a number."""
    return int(value) if isinstance(value, str) and re.fullmatch("-?[0-9]{1,18}", value) else value


def _number(value: object) -> object:
    return float(value) if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}(\.[0-9]{1,18})?", value) else value


def flag(value: object) -> object:
    """Variables are text, so "true" and "false" count as booleans."""
    return {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value


def _segments(path: str) -> str:
    """A dotted path without empty segments."""
    if "" in re.split(r"(?<!\\)\.", path):
        raise ValueError("expected a dotted path such as provider.sort")
    if any(name.isdecimal() and int(name) > _MOST_ITEMS for name in path.split(".")):
        raise ValueError(f"expected list indexes of at most {_MOST_ITEMS}")
    return path


def _headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers with lower-case names."""
    found: dict[str, str] = {}
    for name, value in headers.items():
        if name.lower() in found:
            raise ValueError(f"the header {name.lower()} is set twice (upper and lower case make no difference)")
        found[name.lower()] = value
    return found


def _header(name: str) -> str:
    if not _TOKEN.fullmatch(name):
        raise ValueError("expected header names of letters, digits and dashes")
    if name.lower() in FRAMING:
        raise ValueError(f"the header {name.lower()} is set by Sluice itself and cannot be configured")
    return name


def _header_value(value: str) -> str:
    """A value that HTTP can carry."""
    if not re.fullmatch(r"[\t\x20-\x7e\x80-\xff]*", value):
        raise ValueError("a header value may not contain line breaks or characters outside Latin-1")
    return value


def shown_key(key: str) -> str:
    """A key that a header can carry: printable ASCII without surrounding spaces, or empty. Raises ValueError."""
    if not re.fullmatch(r"([!-~]([ -~]*[!-~])?)?", key):
        raise ValueError("expected a key of printable ASCII characters without spaces around it")
    return key


def _pattern(pattern: str) -> Any:
    """A JSON Schema pattern for text in this form, or text with a variable."""
    return Annotated[str, Field(pattern=f"^({pattern})$|{_VARIABLE}")]


_OrVariable = Annotated[str, Field(pattern=_VARIABLE)]

Many = Annotated[tuple[T, ...], Field(strict=False)]
"""A YAML list, kept as a tuple."""
Json = Any
"""Any JSON value; variables in it stay text."""
Whole = Annotated[int, BeforeValidator(_whole, json_schema_input_type=int | _OrVariable)]
Number = Annotated[float, BeforeValidator(_number, json_schema_input_type=float | _OrVariable)]
Flag = Annotated[bool, BeforeValidator(flag, json_schema_input_type=bool | _OrVariable)]
Duration = Annotated[float, BeforeValidator(units.duration, json_schema_input_type=_pattern(units.DURATION))]
"""Seconds."""
Wait = Annotated[float, BeforeValidator(units.wait, json_schema_input_type=_pattern(units.DURATION))]
"""Seconds, more than none."""
Size = Annotated[int, BeforeValidator(units.size, json_schema_input_type=_pattern(units.SIZE))]
"""Bytes."""
Share = Annotated[float, BeforeValidator(units.share, json_schema_input_type=_pattern(units.SHARE))]
"""0 to 1."""
Dotted = Annotated[str, AfterValidator(_segments)]
"""A path into a JSON body: `provider.sort`."""
HeaderName = Annotated[str, AfterValidator(_header), AfterValidator(str.lower)]
ShownKey = Annotated[str, AfterValidator(shown_key)]
Headers = Annotated[
    Mapping[Annotated[str, AfterValidator(_header)], Annotated[str, AfterValidator(_header_value)]],
    AfterValidator(_headers),
]
Name = Annotated[str, Field(min_length=1)]
