"""JSON texts of every spelling, paths into them, and what a parser finds there."""

from collections.abc import Callable
from typing import Any

import orjson
from hypothesis import strategies as st

ABSENT = object()
NAMES = ["a", "b", "c", "model", "0", "1", "a.b", "é", 'q"', "s/", "back\\slash", ""]
Draw = Callable[[st.SearchStrategy[Any]], Any]


# Made once: a strategy that is made anew in each draw is checked and labelled anew, which takes longer than the draw.
YES = st.booleans()
SPACES = st.sampled_from(["", "", "", " ", "\n  ", "\t", "\r\n"])
STRINGS = st.sampled_from(["x", 'say "a":{', "\\", 'end\\"', "}],[", "\n", '\\\\"'])
OTHERS = st.sampled_from(["1", "-0", "1.0", "1E+2", "12345678901234567", "true", "false", "null"])
KEYS = st.sampled_from(NAMES)
KINDS = st.sampled_from(["object", "list", "scalar"])
SIZES = st.integers(0, 4)


def spelled(text: str, draw: Draw) -> str:
    """A JSON string with some characters as escapes."""
    plain = orjson.dumps(text).decode()[1:-1] if '"' in text or "\\" in text or "\n" in text else text
    if plain != text or not text or not draw(YES):
        return f'"{plain}"'
    at = draw(st.integers(0, len(text) - 1))
    return f'"{text[:at]}\\u{ord(text[at]):04x}{text[at + 1 :]}"' if ord(text[at]) < 0xD800 else f'"{text}"'


def written(depth: int, kind: str, draw: Draw) -> str:
    """An object, list or scalar with odd whitespace, escapes, number spellings and doubled keys."""
    if kind == "scalar":
        return spelled(draw(STRINGS), draw) if draw(YES) else str(draw(OTHERS))

    def space() -> str:
        return str(draw(SPACES))

    size = draw(SIZES)
    values = [written(depth - 1, draw(KINDS) if depth > 1 else "scalar", draw) for _ in range(size)]
    if kind == "object":
        keys = [spelled(draw(KEYS), draw) for _ in values]
        values = [f"{key}{space()}:{space()}{value}" for key, value in zip(keys, values, strict=True)]
    inner = ",".join(f"{space()}{value}{space()}" for value in values) or space()
    opening, closing = "{}" if kind == "object" else "[]"
    return f"{opening}{inner}{closing}"


@st.composite
def texts(draw: Draw, depth: int = 4, root: bool = True) -> str:
    """A JSON text; `root`: an object, with whitespace around it."""
    if not root:
        return written(depth, draw(KINDS) if depth else "scalar", draw)
    around = str(draw(SPACES))
    return f"{around}{written(depth, 'object', draw)}{around}"


bodies = texts().map(str.encode)
paths = st.lists(st.sampled_from(NAMES[:-1]), min_size=1, max_size=3).map(tuple)
values: st.SearchStrategy[Any] = st.sampled_from([None, 7, "new", {"z": [1]}, []])


def dotted(names: tuple[str, ...]) -> str:
    return ".".join(name.replace(".", "\\.") for name in names)


def child(value: Any, name: str) -> Any:
    """What a name leads to in a parsed value."""
    if isinstance(value, dict):
        return value.get(name, ABSENT)
    if isinstance(value, list) and name.isdecimal() and int(name) < len(value):
        return value[int(name)]
    return ABSENT


def got(value: Any, names: tuple[str, ...]) -> Any:
    for name in names:
        value = child(value, name)
    return value
