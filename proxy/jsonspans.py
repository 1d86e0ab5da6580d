"""Finds members of a JSON text by their byte spans.

The text must be valid JSON (RFC 8259); callers have parsed it before. Each path can be found in two ways: by one regex,
for texts in which its keys occur once and without escapes, and by scanning each container on the way, for all others.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Final, NamedTuple

import orjson

from proxy.errors import invalid_field
from proxy.jsongrammar import COLON, GAP, SPACE, grammar, possessives_hold

Span = tuple[int, int]

_GRAMMAR: Final = grammar(careful=not possessives_hold())
_BLANK: Final = re.compile(SPACE)
_ASCII_ESCAPE: Final = re.compile(rb"\\u00[2-7]")
_MODEL_VALUE: Final = re.compile(COLON + rb"(" + _GRAMMAR.string + rb")")
OBJECT, _LIST = b"{["
_OTHER_LETTERS: Final = frozenset(map("".join, product(*zip("model", "MODEL", strict=True)))) - {"model"}


@dataclass(frozen=True, slots=True)
class Path:
    """A path into a JSON text: names of members; a number is an index where it meets an array."""

    names: tuple[str, ...]
    keys: tuple[bytes, ...] = field(repr=False)  # the names as JSON
    marks: tuple[bytes, ...] = field(repr=False)  # keys that must occur in a text, escapes aside, for the path to match
    straight: re.Pattern[bytes] | None = field(repr=False)  # groups: gap before, key, value, gap with comma behind

    @classmethod
    def of(cls, text: str) -> "Path":
        """Parses a dotted path: `a.b.0.c`; `\\.` is a dot within a name."""
        names = tuple(name.replace("\\.", ".") for name in re.split(r"(?<!\\)\.", text))
        keys = tuple(orjson.dumps(name) for name in names)
        marks = tuple(key for name, key in zip(names, keys, strict=True) if is_plain(name))
        told = all(is_plain(name) or _is_index(name) for name in names)
        return cls(names, keys, marks, re.compile(_straight(names, keys)) if told else None)

    def absent(self, raw: bytes) -> bool:
        """Whether the path certainly leads nowhere in `raw`, decided without parsing."""
        for mark in self.marks:
            if mark not in raw:
                return not escapes(raw)
        return False

    def only(self, raw: bytes) -> re.Match[bytes] | None:
        """The single match of the path; None: there is none, or the text must be scanned."""
        if self.straight is None:
            return None
        for mark in self.marks:
            at = raw.find(mark)
            if at < 0 or raw.rfind(mark) != at:
                return None
        return None if escapes(raw) else self.straight.match(raw)


def _straight(names: tuple[str, ...], keys: tuple[bytes, ...]) -> bytes:
    """The regex from the start of the text to the end of the path."""
    string, value, steps = _GRAMMAR.string, _GRAMMAR.value, [SPACE]
    for name, key in zip(names, keys, strict=True):
        if _is_index(name):
            way, key = rb"\[(?:" + GAP + value + rb"){" + name.encode() + rb"}+", b""
        else:
            key = re.escape(key)
            way = rb"\{" + _GRAMMAR.repeat(GAP + rb"(?!" + key + rb")" + string + COLON + value)
        colon = COLON if key else b""
        if len(steps) < len(names):
            steps.append(way + GAP + key + colon)
        else:
            steps.append(way + rb"(" + GAP + rb")(" + key + rb")" + colon + rb"(" + value + rb")(" + SPACE + rb",")
    return b"".join(steps) + SPACE + rb")?+"


def _is_index(name: str) -> bool:
    return name.isascii() and name.isdecimal()


def is_plain(name: str) -> bool:
    """Whether a key of this name has only one spelling, apart from `\\u00xx` (a number may be an index instead)."""
    return name.isascii() and name.isprintable() and not _is_index(name) and not set(name) & set('"\\/')


def escapes(raw: bytes) -> bool:
    """Whether any ASCII character in `raw` is written as an escape: keys may then be spelled differently."""
    return raw.find(b"\\") >= 0 and raw.rfind(b"\\u00") >= 0 and _ASCII_ESCAPE.search(raw) is not None


class Child(NamedTuple):
    """One member of an object, or one item of an array (with an empty key span)."""

    key: int
    key_end: int
    start: int
    end: int


class Place(NamedTuple):
    """A container on a path's way: where it opens, how many names led to it, which children the next name hits."""

    at: int
    depth: int
    children: list[Child]
    hits: list[Child]


def children(raw: bytes, at: int, most: int = -1) -> list[Child]:
    """The members or items of the container at `at`; at most `most` (-1: all)."""
    match = (_GRAMMAR.member if raw[at] == OBJECT else _GRAMMAR.item).match
    found: list[Child] = []
    at += 1
    while len(found) != most and (child := match(raw, at)):
        key, key_end = child.span(1)
        start, at = child.span(2)
        if start < 0:
            start = child.start(3)
            at = _end(raw, start)
        found.append(Child(key, key_end, start, at))
    return found


def _end(raw: bytes, at: int) -> int:
    """The end of the container at `at`, at any depth."""
    depth = 0
    for token in _GRAMMAR.token.finditer(raw, at):
        depth += {None: 0, 1: 1, 2: -1}[token.lastindex]
        if not depth:
            return token.end()
    raise ValueError("unbalanced JSON")


def named(raw: bytes, members: list[Child], key: bytes) -> list[Child]:
    """The members with this key, in any spelling."""
    hits = []
    for member in members:
        text = raw[member.key : member.key_end]
        if text == key or (b"\\" in text and orjson.dumps(orjson.loads(text)) == key):
            hits.append(member)
    return hits


def _step(raw: bytes, path: Path, at: int, depth: int) -> Place | None:
    """What the path's name at `depth` matches in the value at `at`; None: the value cannot contain it."""
    if raw[at] == OBJECT:
        found = children(raw, at)
        return Place(at, depth, found, named(raw, found, path.keys[depth]))
    if raw[at] == _LIST and _is_index(path.names[depth]):
        index = int(path.names[depth])
        found = children(raw, at, index + 2)  # one more: removing the item needs the start of the next
        return Place(at, depth, found, found[index : index + 1])
    return None


def places(raw: bytes, path: Path, at: int, depth: int = 0) -> Iterator[Place]:
    """Containers in which the path ends, or its next name is missing, in the order of the text."""
    place = _step(raw, path, at, depth)
    if place is None:
        return
    if not place.hits or depth + 1 == len(path.names):
        yield place
        return
    for hit in place.hits:
        yield from places(raw, path, hit.start, depth + 1)


def root(raw: bytes) -> int:
    """The start of the top-level value."""
    space = _BLANK.match(raw)
    return space.end() if space else 0


def find(raw: bytes, path: Path) -> Span | None:
    """The span of the value that `path` leads to (the last one where a key is doubled, as parsers do), or None."""
    if only := path.only(raw):
        return only.span(3)
    if path.absent(raw):
        return None
    start, end = root(raw), len(raw)
    for depth in range(len(path.names)):
        place = _step(raw, path, start, depth)
        if place is None or not place.hits:
            return None
        start, end = place.hits[-1].start, place.hits[-1].end
    return start, end


def model_spans(raw: bytes) -> list[Span]:
    """The spans of the values of every top-level `model` in `raw`, an object that is known to have one."""
    at = raw.find(b'"model"')
    if at >= 0 and raw.rfind(b'"model"') == at and not escapes(raw) and (value := _MODEL_VALUE.match(raw, at + 7)):
        return [value.span(1)]
    return [(hit.start, hit.end) for hit in named(raw, children(raw, root(raw)), b'"model"')]


def model_span(raw: bytes, fields: Mapping[str, Any]) -> Span:
    """The span of the one top-level `model` in `raw`, quotes included; `fields` is `raw`, parsed.

    Raises client_invalid_request where it is no string, is there twice (however escaped), or where another key is
    equal to it except for case: another parser could read another model there than the one that was routed.
    """
    if not isinstance(fields.get("model"), str):
        raise invalid_field("model", "must be a string")
    if not _OTHER_LETTERS.isdisjoint(fields):
        raise invalid_field("model", "is also there in other letters")
    spans = model_spans(raw)
    if len(spans) != 1:
        raise invalid_field("model", "is there twice")
    return spans[0]
