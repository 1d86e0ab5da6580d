"""Regexes of the parts that a JSON text is made of; the text must be valid JSON (RFC 8259)."""

import re
from dataclasses import dataclass, field
from typing import Final

SPACE: Final = rb"[ \t\n\r]*+"
GAP: Final = rb"[, \t\n\r]*+"
COLON: Final = SPACE + rb":" + SPACE

_SCALAR: Final = rb'[^"\[\]{},: \t\n\r]++'
_DEPTH: Final = 10  # nesting levels that one match can skip; deeper ones are scanned bracket by bracket
_ROUNDS: Final = b"{0,5000}"  # limit of a careful repeat, which keeps a backtracking state for each


@dataclass(frozen=True, slots=True)
class Grammar:
    """The regexes for one Python version. `value` matches no container that is nested too deeply for it."""

    careful: bool
    string: bytes = field(repr=False)
    value: bytes = field(repr=False)
    member: re.Pattern[bytes] = field(repr=False)  # groups: key, value, bracket of a value too deep for `value`
    item: re.Pattern[bytes] = field(repr=False)  # the same; the key is empty
    token: re.Pattern[bytes] = field(repr=False)  # groups: opening bracket, closing bracket

    def repeat(self, part: bytes) -> bytes:
        """See `repeat`."""
        return repeat(part, self.careful)


def grammar(careful: bool) -> Grammar:
    """`careful`: for a Python whose possessive quantifiers are broken."""
    # Matching up to the next quote is fastest. A quote after a single backslash continues the string; after several,
    # each character is matched by itself.
    quoted = rb'"[^"]*+' + repeat(rb'(?<=[^\\]\\)"[^"]*+', careful) + rb'(?<!\\)"'
    string = rb"(?>" + quoted + rb'|"(?:[^"\\]++|\\.)*+")'
    container = _nest(string, _DEPTH, careful)
    value = rb"(?>" + string + rb"|" + _SCALAR + rb"|" + container + rb")"
    rest = rb"(?:(" + value + rb")|([\[{]))"
    member = re.compile(GAP + rb"(" + string + rb")" + COLON + rest)
    token = re.compile(string + rb"|" + container + rb"|([\[{])|([\]}])")
    return Grammar(careful, string, value, member, re.compile(GAP + rb"()" + rest), token)


def repeat(part: bytes, careful: bool) -> bytes:
    """A regex for any number of parts without backtracking; if careful, for at most 5,000.

    Python before 3.11.5 (and Debian 12's 3.11.2 before deb12u9) continues after a possessive quantifier from where its
    failed iteration had got to (gh-106052). An iteration that fails at its first byte is not affected and needs no
    care.
    """
    return rb"(?>(?:" + part + rb")" + _ROUNDS + rb")" if careful else rb"(?:" + part + rb")*+"


def possessives_hold() -> bool:
    """Whether possessive quantifiers of this Python work as documented."""
    return re.match(rb"a(?:(?<=b)c)*+c", b"ac") is not None


def _nest(string: bytes, depth: int, careful: bool) -> bytes:
    """A regex for one array or object with at most `depth` levels."""
    between = rb'[^"\[\]{}]*+'
    part = string
    for _ in range(depth):
        container = rb"[\[{]" + between + repeat(part + between, careful) + rb"[\]}]"
        part = rb"(?:" + string + rb"|" + container + rb")"
    return container
