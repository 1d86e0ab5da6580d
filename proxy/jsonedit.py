"""Edits members of a JSON text by their byte spans, so that every byte no edit names stays as it came.

The text must be valid JSON (RFC 8259), which its reader has seen by parsing it. A key that is there twice is edited
twice: parsers disagree on which one counts, so none may be left behind.

Each path has two ways of being found: one regex that leads straight to it, for texts where its keys occur once and are
spelled plainly, and a reading of each container on the way, for all others.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import orjson

from proxy.errors import SluiceError

Span = tuple[int, int]
Piece = tuple[int, int, bytes]
Edit = Callable[[bytes], bytes]
"""One edit, compiled: takes a JSON text, gives it edited, or the very same object where there is nothing to do."""

# Up to the next quote is the fastest that a regex goes. A quote behind one lone backslash goes on; where there are
# several, each is looked at.
_STRING: Final = rb'(?>"[^"]*+(?:(?<=[^\\]\\)"[^"]*+)*+(?<!\\)"|"(?:[^"\\]++|\\.)*+")'
_SPACE: Final = rb"[ \t\n\r]*+"
_GAP: Final = rb"[, \t\n\r]*+"
_SCALAR: Final = rb'[^"\[\]{},: \t\n\r]++'
_DEPTH: Final = 10  # levels of nesting that one match can skip; what is deeper is walked bracket by bracket


def _nest(depth: int) -> bytes:
    """A regex of one array or object with at most `depth` levels."""
    between = rb'[^"\[\]{}]*+'
    container = rb"[\[{]" + between + rb"(?:" + _STRING + between + rb")*+[\]}]"
    for _ in range(depth - 1):
        container = rb"[\[{]" + between + rb"(?:(?:" + _STRING + rb"|" + container + rb")" + between + rb")*+[\]}]"
    return container


_CONTAINER: Final = _nest(_DEPTH)
_VALUE: Final = rb"(?>" + _STRING + rb"|" + _SCALAR + rb"|" + _CONTAINER + rb")"
_COLON: Final = _SPACE + rb":" + _SPACE
_MEMBER: Final = re.compile(_GAP + rb"(" + _STRING + rb")" + _COLON + rb"(?:(" + _VALUE + rb")|([\[{]))")
_ITEM: Final = re.compile(_GAP + rb"()(?:(" + _VALUE + rb")|([\[{]))")
_TOKEN: Final = re.compile(_STRING + rb"|" + _CONTAINER + rb"|([\[{])|([\]}])")
_BLANK: Final = re.compile(_SPACE)
_OPENING: Final = re.compile(rb"(" + _SPACE + rb"\{)" + _SPACE + rb"(\})?+")
_ASCII_ESCAPE: Final = re.compile(rb"\\u00[2-7]")
_MODEL_VALUE: Final = re.compile(_COLON + rb"(" + _STRING + rb")")
_OBJECT, _LIST = b"{["


@dataclass(frozen=True, slots=True)
class Path:
    """A way down into a JSON text: names of members; a number stands for an item where it meets an array."""

    names: tuple[str, ...]
    keys: tuple[bytes, ...] = field(repr=False)  # the names as JSON
    marks: tuple[bytes, ...] = field(repr=False)  # the keys that a text shows, escapes aside, where the path leads on
    straight: re.Pattern[bytes] | None = field(repr=False)  # groups: gap before, key, value, gap with comma behind

    @classmethod
    def of(cls, text: str) -> "Path":
        """The path that a dotted `text` names: `a.b.0.c`; `\\.` is a dot within a name."""
        names = tuple(name.replace("\\.", ".") for name in re.split(r"(?<!\\)\.", text))
        keys = tuple(orjson.dumps(name) for name in names)
        marks = tuple(key for name, key in zip(names, keys, strict=True) if _is_plain(name))
        told = all(_is_plain(name) or _is_index(name) for name in names)
        return cls(names, keys, marks, re.compile(_straight(names, keys)) if told else None)

    def absent(self, raw: bytes) -> bool:
        """Whether the path surely leads nowhere in `raw`, told without reading its structure."""
        for mark in self.marks:
            if mark not in raw:
                return not _escapes(raw)
        return False

    def only(self, raw: bytes) -> re.Match[bytes] | None:
        """The one place that the path leads to; None: there is none, or it takes a closer look."""
        if self.straight is None:
            return None
        for mark in self.marks:
            at = raw.find(mark)
            if at < 0 or raw.rfind(mark) != at:
                return None
        return None if _escapes(raw) else self.straight.match(raw)


def _straight(names: tuple[str, ...], keys: tuple[bytes, ...]) -> bytes:
    """The regex that walks from the text's start to the path's end."""
    steps = [_SPACE]
    for name, key in zip(names, keys, strict=True):
        if _is_index(name):
            way, key = rb"\[(?:" + _GAP + _VALUE + rb"){" + name.encode() + rb"}+", b""
        else:
            key = re.escape(key)
            way = rb"\{(?:" + _GAP + rb"(?!" + key + rb")" + _STRING + _COLON + _VALUE + rb")*+"
        colon = _COLON if key else b""
        if len(steps) < len(names):
            steps.append(way + _GAP + key + colon)
        else:
            steps.append(way + rb"(" + _GAP + rb")(" + key + rb")" + colon + rb"(" + _VALUE + rb")(" + _SPACE + rb",")
    return b"".join(steps) + _SPACE + rb")?+"


def _is_index(name: str) -> bool:
    return name.isascii() and name.isdecimal()


def _is_plain(name: str) -> bool:
    """Whether a key of this name has only one spelling, `\\u00xx` aside (a number need not be a key at all)."""
    return name.isascii() and name.isprintable() and not _is_index(name) and not set(name) & set('"\\/')


def _escapes(raw: bytes) -> bool:
    """Whether plain ASCII is spelled as escapes anywhere in `raw`: a key may not look like itself then."""
    return b"\\" in raw and raw.rfind(b"\\u00") >= 0 and _ASCII_ESCAPE.search(raw) is not None


class Child(NamedTuple):
    """One member of an object, or one item of an array (its key span is empty)."""

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
    """The members or items of the container that opens at `at`; at most so many (-1: all)."""
    match = (_MEMBER if raw[at] == _OBJECT else _ITEM).match
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
    """Where the container that opens at `at` ends, however deep it is."""
    depth = 0
    for token in _TOKEN.finditer(raw, at):
        depth += {None: 0, 1: 1, 2: -1}[token.lastindex]
        if not depth:
            return token.end()
    raise ValueError("unbalanced JSON")


def _named(raw: bytes, members: list[Child], key: bytes) -> list[Child]:
    """Those of the members that have this key, spelled however."""
    hits = []
    for member in members:
        text = raw[member.key : member.key_end]
        if text == key or (b"\\" in text and orjson.dumps(orjson.loads(text)) == key):
            hits.append(member)
    return hits


def _step(raw: bytes, path: Path, at: int, depth: int) -> Place | None:
    """What the path's name at `depth` meets in the value at `at`; None: nothing that it could be a name in."""
    if raw[at] == _OBJECT:
        found = children(raw, at)
        return Place(at, depth, found, _named(raw, found, path.keys[depth]))
    if raw[at] == _LIST and _is_index(path.names[depth]):
        index = int(path.names[depth])
        found = children(raw, at, index + 2)  # one more: whoever removes the item asks for what follows it
        return Place(at, depth, found, found[index : index + 1])
    return None


def _places(raw: bytes, path: Path, at: int, depth: int = 0) -> Iterator[Place]:
    """Where the path ends or its first missing name is missing, in the text's order; nothing behind a non-object."""
    place = _step(raw, path, at, depth)
    if place is None:
        return
    if not place.hits or depth + 1 == len(path.names):
        yield place
        return
    for hit in place.hits:
        yield from _places(raw, path, hit.start, depth + 1)


def _root(raw: bytes) -> int:
    """Where the text's one value starts."""
    space = _BLANK.match(raw)
    return space.end() if space else 0


def _splice(raw: bytes, pieces: list[Piece]) -> bytes:
    """`raw` with each piece (start, end, text) put in, in ascending order; the same object for no pieces."""
    if not pieces:
        return raw
    parts = []
    at = 0
    for start, end, text in pieces:
        parts += [raw[at:start], text]
        at = end
    return b"".join((*parts, raw[at:]))


def edit(raw: bytes, edits: Iterable[Edit]) -> bytes:
    """`raw` after all the edits, each seeing what the ones before it left."""
    for change in edits:
        raw = change(raw)
    return raw


def find(raw: bytes, path: Path) -> Span | None:
    """The span of the value that `path` leads to (the last one where a key is doubled, as parsers do), or None."""
    if only := path.only(raw):
        return only.span(3)
    if path.absent(raw):
        return None
    start, end = _root(raw), len(raw)
    for depth in range(len(path.names)):
        place = _step(raw, path, start, depth)
        if place is None or not place.hits:
            return None
        start, end = place.hits[-1].start, place.hits[-1].end
    return start, end


def put(raw: bytes, path: Path, text: bytes, over: bool = True, make: bool = True) -> bytes:
    """`raw` with the JSON `text` as the value of `path`.

    Not `over`: what is there stays, null as well. Not `make`: what is missing stays missing, else objects are made for
    missing parents. A path through a non-object leads nowhere.
    """
    if only := path.only(raw):
        start, end = only.span(3)
        return raw if not over or raw[start:end] == text else raw[:start] + text + raw[end:]
    pieces: list[Piece] = []
    for place in _places(raw, path, _root(raw)):
        if not place.hits:
            if make and raw[place.at] == _OBJECT:
                comma = b"," if place.children else b""
                pieces.append((place.at + 1, place.at + 1, _member(path.keys[place.depth :], text) + comma))
        elif over:
            pieces += [(hit.start, hit.end, text) for hit in place.hits if raw[hit.start : hit.end] != text]
    return _splice(raw, pieces)


def _member(keys: tuple[bytes, ...], text: bytes) -> bytes:
    """The member that the first key names, holding one object for each further key."""
    return b":{".join(keys) + b":" + text + b"}" * (len(keys) - 1)


def compile_set(path: str, value: Any) -> Edit:
    """Sets `path` to `value`, in objects made where they are missing; new members come first."""
    return _putting(Path.of(path), orjson.dumps(value), over=True)


def compile_default(path: str, value: Any) -> Edit:
    """Sets `path` to `value` where it is absent; an explicit null is there."""
    return _putting(Path.of(path), orjson.dumps(value), over=False)


def _putting(path: Path, text: bytes, over: bool) -> Edit:
    """`put` with a short cut: where even the first key is nowhere in the text, no reading is needed."""
    member = _member(path.keys, text)
    first = path.keys[0] if _is_plain(path.names[0]) else b""

    def put_in(raw: bytes) -> bytes:
        opening = _OPENING.match(raw)
        if first and first not in raw and opening and not _escapes(raw):
            at = opening.end(1)
            return raw[:at] + member + (b"" if opening.group(2) else b",") + raw[at:]
        return put(raw, path, text, over)

    return put_in


def compile_remove(path: str) -> Edit:
    """Removes what `path` leads to, with the comma and the whitespace that belonged to it."""
    return _removing(Path.of(path))


def _removing(path: Path) -> Edit:
    last = len(path.names) - 1

    def remove(raw: bytes) -> bytes:
        if only := path.only(raw):
            if only.end(4) >= 0:  # others follow: all up to the next one goes
                return raw[: only.start(2)] + raw[only.end(4) :]
            start = only.start(1) if b"," in only[1] else only.start(2)
            return raw[:start] + raw[only.end(3) :]
        if path.absent(raw):
            return raw
        places = [place for place in _places(raw, path, _root(raw)) if place.depth == last]
        return _splice(raw, [cut for place in places for cut in _cuts(place)])

    return remove


def _cuts(place: Place) -> list[Piece]:
    """What to cut from a container so that all it hits is gone and commas stand between the others."""
    found, gone = place.children, set(place.hits)
    tail = len(found)  # the children from here on all go, and the comma before them
    while tail and found[tail - 1] in gone:
        tail -= 1
    cuts = [(found[at].key, found[at + 1].key, b"") for at in range(tail) if found[at] in gone]
    if tail < len(found):
        cuts.append((found[tail - 1].end if tail else found[0].key, found[-1].end, b""))
    return cuts


def compile_rename(old: str, new: str) -> Edit:
    """Moves what `old` leads to to `new`, its bytes untouched; where `new` is there already, it stays and `old` goes.

    Within one object only the key is exchanged. Raises ValueError where one path leads through the other.
    """
    here, there = Path.of(old), Path.of(new)
    if all(left == right for left, right in zip(here.names, there.names, strict=False)):
        raise ValueError(f"{old} cannot be moved to {new}: one lies within the other")
    remove = _removing(here)
    beside = here.names[:-1] == there.names[:-1]
    last = len(here.names) - 1

    def move(raw: bytes) -> bytes:
        span = find(raw, here)
        if span is None:
            return raw
        if find(raw, there) is None:
            moved = put(raw, there, raw[span[0] : span[1]])
            return raw if moved is raw else remove(moved)
        return remove(raw)

    def rename(raw: bytes) -> bytes:
        if here.absent(raw):
            return raw
        if (only := here.only(raw)) and there.absent(raw):
            return raw[: only.start(2)] + there.keys[-1] + raw[only.end(2) :] if only[2] else raw
        pieces: list[Piece] = []
        for place in _places(raw, here, _root(raw)):
            if raw[place.at] != _OBJECT or place.depth != last:
                continue
            if place.hits and _named(raw, place.children, there.keys[-1]):
                pieces += _cuts(place)
            else:
                pieces += [(hit.key, hit.key_end, there.keys[-1]) for hit in place.hits]
        return _splice(raw, pieces)

    return rename if beside else move


def model_spans(raw: bytes) -> list[Span]:
    """The spans of the values of every top-level `model` in `raw`, an object that is known to have one."""
    at = raw.find(b'"model"')
    if at >= 0 and raw.rfind(b'"model"') == at and not _escapes(raw) and (value := _MODEL_VALUE.match(raw, at + 7)):
        return [value.span(1)]
    return [(hit.start, hit.end) for hit in _named(raw, children(raw, _root(raw)), b'"model"')]


def model_span(raw: bytes, fields: Mapping[str, Any]) -> Span:
    """The span of the one top-level `model` in `raw`, quotes included; `fields` is `raw`, parsed.

    Raises client_invalid_request where it is no string, is there twice (however escaped), or where another key is
    equal to it except for case: another parser could read another model there than the one that was routed.
    """
    for key in fields:
        if len(key) == 5 and key != "model" and key.lower() == "model":
            raise _no_one_model("is also there in other letters")
    if not isinstance(fields.get("model"), str):
        raise _no_one_model("must be a string")
    at = raw.find(b'"model"')
    if at >= 0 and raw.find(b'"model"', at + 7) < 0 and (b"\\" not in raw or not _escapes(raw)):
        if value := _MODEL_VALUE.match(raw, at + 7):
            return value.span(1)
    spans = model_spans(raw)
    if len(spans) != 1:
        raise _no_one_model("is there twice")
    return spans[0]


def _no_one_model(problem: str) -> SluiceError:
    return SluiceError("client_invalid_request", f"`model` {problem}.", param="model")
