"""Splits a JSON object into its members, so that a door can build another with every value unchanged."""

from collections.abc import Iterable, Iterator

import orjson

from proxy.jsonspans import children

Member = tuple[str, bytes]
"""A name and the bytes of its value."""


def members(raw: bytes) -> Iterator[Member]:
    """The members of a valid JSON object, in order; duplicate names are kept."""
    for child in children(raw, raw.index(b"{")):
        yield orjson.loads(raw[child.key : child.key_end]), raw[child.start : child.end]


def items(raw: bytes) -> Iterator[bytes]:
    """The items of a list, likewise."""
    for child in children(raw, raw.index(b"[")):
        yield raw[child.start : child.end]


def joined_object(found: Iterable[Member]) -> bytes:
    """The object with these members."""
    return b"{" + b",".join([orjson.dumps(name) + b":" + value for name, value in found]) + b"}"


def joined_list(found: Iterable[bytes]) -> bytes:
    """The list of these items."""
    return b"[" + b",".join(found) + b"]"
