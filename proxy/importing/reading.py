"""Parses values of a foreign configuration defensively: unusable ones are None."""

import re
from math import isfinite
from typing import Any, Final, TypeGuard

from proxy.settings.addresses import web_address
from proxy.settings.values import FRAMING

_LARGEST: Final = 10**12


def number(value: Any) -> float | int | None:
    """A number from 0 to the largest that a configuration can hold."""
    usable = isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
    return value if usable and 0 <= value < _LARGEST else None


def count(value: Any) -> int | None:
    """An integer from 0."""
    return value if isinstance(value, int) and number(value) is not None else None


def seconds(value: Any) -> float | int | None:
    """A duration of a millisecond or more."""
    found = number(value)
    return round(found, 3) if found and found >= 0.001 else None


def address(text: str) -> bool:
    """Whether this is a usable address of an upstream: without password, query and fragment."""
    try:
        web_address(text)
    except ValueError:
        return False
    return not set("?#") & set(text)


def header_name(name: object) -> bool:
    """Whether this is a valid header name that an upstream may set."""
    if not isinstance(name, str) or not name.isascii() or name.lower() in FRAMING:
        return False
    return bool(name) and name.replace("-", "").replace("_", "").isalnum()


def names(value: Any) -> TypeGuard[str]:
    """Whether this is a text usable as a name."""
    return isinstance(value, str) and bool(value)


def writable(value: Any) -> bool:
    """Whether JSON and config.yaml can express it."""
    if isinstance(value, dict):
        return all(names(key) and writable(item) for key, item in value.items())
    if isinstance(value, list):
        return all(map(writable, value))
    if isinstance(value, int | float):
        return isfinite(value) and abs(value) < _LARGEST
    return value is None or isinstance(value, str)


def credential(value: Any) -> str:
    """A key or password, also one of digits, which YAML reads as a number; "": none."""
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""


def removable(parameter: object) -> str:
    """LiteLLM's `parent.list[0].child` as a path that rewriting can remove; "": it cannot."""
    path = re.sub(r"\[([0-9]{1,3})\]", r".\1", parameter) if isinstance(parameter, str) else ""
    names = re.split(r"(?<!\\)\.", path)
    plain = names[0].isidentifier() and all(re.fullmatch(r"([\w-]|\\\.)+", name) for name in names)
    return path if plain and names[0].lower() != "model" else ""
