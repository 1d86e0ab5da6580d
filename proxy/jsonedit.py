"""Edits members of a JSON text by their byte spans, so that all other bytes stay unchanged.

The text must be valid JSON (RFC 8259); callers have parsed it before. Both occurrences of a duplicate key are edited,
since parsers disagree on which one counts.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any, Final

import orjson

from proxy.jsongrammar import SPACE
from proxy.jsonspans import OBJECT, Path, Place, escapes, find, is_plain, named, places, root

Piece = tuple[int, int, bytes]
Edit = Callable[[bytes], bytes]
"""A compiled edit: returns the edited text, or the very same object if there is nothing to do."""

_OPENING: Final = re.compile(rb"(" + SPACE + rb"\{)" + SPACE + rb"(\})?+")


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
    """`raw` after all the edits, applied one after another."""
    for change in edits:
        raw = change(raw)
    return raw


def put(raw: bytes, path: Path, text: bytes, over: bool = True, make: bool = True) -> bytes:
    """`raw` with the JSON `text` as the value of `path`.

    Not `over`: an existing value stays, even null. Not `make`: a missing value stays missing; else missing parents are
    created as objects. A path through a value that is no object matches nothing.
    """
    if only := path.only(raw):
        start, end = only.span(3)
        return raw if not over or raw[start:end] == text else raw[:start] + text + raw[end:]
    pieces: list[Piece] = []
    for place in places(raw, path, root(raw)):
        if not place.hits:
            if make and raw[place.at] == OBJECT:
                comma = b"," if place.children else b""
                pieces.append((place.at + 1, place.at + 1, _member(path.keys[place.depth :], text) + comma))
        elif over:
            pieces += [(hit.start, hit.end, text) for hit in place.hits if raw[hit.start : hit.end] != text]
    return _splice(raw, pieces)


def _member(keys: tuple[bytes, ...], text: bytes) -> bytes:
    """The member named by the first key, with one nested object for each further key."""
    return b":{".join(keys) + b":" + text + b"}" * (len(keys) - 1)


def compile_set(path: str, value: Any) -> Edit:
    """Sets `path` to `value` and creates missing parents; new members come first."""
    return _putting(Path.of(path), orjson.dumps(value), over=True)


def compile_default(path: str, value: Any) -> Edit:
    """Sets `path` to `value` if it is absent; an explicit null is present."""
    return _putting(Path.of(path), orjson.dumps(value), over=False)


def _putting(path: Path, text: bytes, over: bool) -> Edit:
    """`put` with a fast path: if even the first key does not occur in the text, nothing is scanned."""
    member = _member(path.keys, text)
    first = path.keys[0] if is_plain(path.names[0]) else b""

    def put_in(raw: bytes) -> bytes:
        opening = _OPENING.match(raw)
        if first and first not in raw and opening and not escapes(raw):
            at = opening.end(1)
            return raw[:at] + member + (b"" if opening.group(2) else b",") + raw[at:]
        return put(raw, path, text, over)

    return put_in


def compile_remove(path: str) -> Edit:
    """Removes the value at `path` with its comma and white space."""
    return _removing(Path.of(path))


def _removing(path: Path) -> Edit:
    last = len(path.names) - 1

    def remove(raw: bytes) -> bytes:
        if only := path.only(raw):
            if only.end(4) >= 0:  # not the last member: cut up to the next one
                return raw[: only.start(2)] + raw[only.end(4) :]
            start = only.start(1) if b"," in only[1] else only.start(2)
            return raw[:start] + raw[only.end(3) :]
        if path.absent(raw):
            return raw
        ends = [place for place in places(raw, path, root(raw)) if place.depth == last]
        return _splice(raw, [cut for place in ends for cut in _cuts(place)])

    return remove


def _cuts(place: Place) -> list[Piece]:
    """The spans to cut from a container to remove its hits, so that commas remain between the other children."""
    found, gone = place.children, set(place.hits)
    tail = len(found)  # all children from here on are removed, with the comma before them
    while tail and found[tail - 1] in gone:
        tail -= 1
    cuts = [(found[at].key, found[at + 1].key, b"") for at in range(tail) if found[at] in gone]
    if tail < len(found):
        cuts.append((found[tail - 1].end if tail else found[0].key, found[-1].end, b""))
    return cuts


def compile_rename(old: str, new: str) -> Edit:
    """Moves the value of `old` to `new`, unchanged; if `new` exists already, it stays and `old` is removed.

    Within one object only the key is replaced. Raises ValueError if one path is a prefix of the other.
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
        for place in places(raw, here, root(raw)):
            if raw[place.at] != OBJECT or place.depth != last:
                continue
            if place.hits and named(raw, place.children, there.keys[-1]):
                pieces += _cuts(place)
            else:
                pieces += [(hit.key, hit.key_end, there.keys[-1]) for hit in place.hits]
        return _splice(raw, pieces)

    return rename if beside else move
