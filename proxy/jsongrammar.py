"""Regexes of the parts that a JSON text is made of; the text must be valid JSON (RFC 8259)."""

import re
from dataclasses import dataclass, field
from typing import Final

SPACE: Final = rb"[ \t\n\r]*+"
GAP: Final = rb"[, \t\n\r]*+"
COLON: Final = SPACE + rb":" + SPACE

_SCALAR: Final = rb'[^"\[\]{},: \t\n\r]++'
_DEPTH: Final = 10  # levels of nesting that one match can skip; what is deeper is walked bracket by bracket
_ROUNDS: Final = b"{0,5000}"  # that a careful repeat takes: it remembers each


@dataclass(frozen=True, slots=True)
class Grammar:
    """The regexes of one Python. `value` takes no container that is too deep for it."""

    careful: bool
    string: bytes = field(repr=False)
    value: bytes = field(repr=False)
    member: re.Pattern[bytes] = field(repr=False)  # groups: key, value, bracket of what `value` does not take
    item: re.Pattern[bytes] = field(repr=False)  # the same; the key is empty
    token: re.Pattern[bytes] = field(repr=False)  # groups: opening bracket, closing bracket

    def repeat(self, part: bytes) -> bytes:
        """See `repeat`."""
        return repeat(part, self.careful)


def grammar(careful: bool) -> Grammar:
    """`careful`: for a Python whose possessive repeats do not hold."""
    # Up to the next quote is the fastest that a regex goes. A quote behind one lone backslash goes on; where there are
    # several, each is looked at.
    quoted = rb'"[^"]*+' + repeat(rb'(?<=[^\\]\\)"[^"]*+', careful) + rb'(?<!\\)"'
    string = rb"(?>" + quoted + rb'|"(?:[^"\\]++|\\.)*+")'
    container = _nest(string, _DEPTH, careful)
    value = rb"(?>" + string + rb"|" + _SCALAR + rb"|" + container + rb")"
    rest = rb"(?:(" + value + rb")|([\[{]))"
    member = re.compile(GAP + rb"(" + string + rb")" + COLON + rest)
    token = re.compile(string + rb"|" + container + rb"|([\[{])|([\]}])")
    return Grammar(careful, string, value, member, re.compile(GAP + rb"()" + rest), token)


def repeat(part: bytes, careful: bool) -> bytes:
    """A regex of any number of parts, of which none is given back; carefully, of no more than 5,000.

    Python before 3.11.5 (Debian 12's 3.11.2 before deb12u9 too) goes on behind a possessive repeat from wherever its
    failing round had got to (gh-106052). A round that fails at its first byte has got nowhere: such need no care.
    """
    return rb"(?>(?:" + part + rb")" + _ROUNDS + rb")" if careful else rb"(?:" + part + rb")*+"


def possessives_hold() -> bool:
    """Whether this Python's possessive repeats are as documented."""
    return re.match(rb"a(?:(?<=b)c)*+c", b"ac") is not None


def _nest(string: bytes, depth: int, careful: bool) -> bytes:
    """A regex of one array or object with at most `depth` levels."""
    between = rb'[^"\[\]{}]*+'
    part = string
    for _ in range(depth):
        container = rb"[\[{]" + between + repeat(part + between, careful) + rb"[\]}]"
        part = rb"(?:" + string + rb"|" + container + rb")"
    return container
