"""Takes a JSON object apart into its members, so that a door can make another of them with every value as it came."""

from collections.abc import Iterable, Iterator

import orjson

from proxy.jsonspans import children

Member = tuple[str, bytes]
"""A name and its value's bytes."""


def members(raw: bytes) -> Iterator[Member]:
    """The members of an object that is known to be valid JSON, in order; a name that is there twice comes twice."""
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
