"""What is wrong with a configuration, where it is written, and the one error that says it all at once."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Final, Literal

Path = tuple[str | int, ...]
"""Where a value stands: ("routes", 0, "to"). Keys are text, items of lists are numbers from 0."""

Kind = Literal["text", "a number", "true or false", "nothing", "a list", "a mapping"]


_NEVER_SHOWN: Final = frozenset(
    {"api_key", "admin_token", "client_keys", "secret", "headers", "base_url", "proxy", "store", "url"}
)
_ROOM: Final = 30  # names in one line


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a key (or an item of a list) is written, both from 1, and what its value looks like in the file."""

    line: int
    column: int
    kind: Kind = "text"
    written: str = ""  # a scalar as it stands in the file, variables not yet replaced


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to put right. Line 0: the file as a whole. Texts never hold a secret or a variable's value."""

    line: int
    column: int
    path: str  # dotted: "upstreams.local.provider"; "": none
    message: str
    file: str = ""  # "": the configuration file itself

    def text(self, file: str) -> str:
        """`config.yaml:12:5: upstreams.local.provider: expected …`, in one line whatever stands in the file."""
        place = f"{self.file or file}:{self.line}:{self.column}" if self.line else self.file or file
        text = ": ".join(part for part in (place, self.path, self.message) if part)
        return printable(text)


class ConfigError(Exception):
    """Every problem of one configuration, in the order of the file; `str` gives a line for each."""

    def __init__(self, file: str, problems: Iterable[Problem]) -> None:
        self.file = file
        self.problems = sorted(problems, key=lambda problem: (problem.file, problem.line, problem.column))
        super().__init__("\n".join(problem.text(file) for problem in self.problems))


@dataclass(slots=True)
class Findings:
    """Collects problems while a file is read, the first one of each path: what follows from it is noise."""

    marks: Mapping[Path, Mark] = field(default_factory=dict)
    found: dict[Path, Problem] = field(default_factory=dict)

    def add(self, path: Path, message: str, mark: Mark | None = None) -> None:
        """Notes a problem where `path` is written, or else where the nearest thing around it is."""
        mark = mark or self.mark(path)
        self.found.setdefault(path, Problem(mark.line, mark.column, dotted(path), message))

    def inside(self, path: Path) -> bool:
        """Whether there is a problem somewhere within `path`."""
        return any(at[: len(path)] == path for at in self.found)

    def mark(self, path: Path) -> Mark:
        """The mark of `path`, or else of the nearest thing around it."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.marks:
                return self.marks[path[:length]]
        return Mark(1, 1)


def holds_secret(path: Path) -> bool:
    """Whether what is written there may be a secret, or lead to one: it is never repeated."""
    return not _NEVER_SHOWN.isdisjoint(path)


def printable(text: str) -> str:
    """The text with what cannot be printed escaped: it neither breaks a line nor steers a terminal."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def dotted(path: Path) -> str:
    """("routes", 0, "to") as `routes.0.to`."""
    return ".".join(map(str, path))


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean "x"?` for the known name that comes closest, "" where none is near."""
    close = get_close_matches(name, sorted(known), n=1)
    return f'; did you mean "{close[0]}"?' if close else ""


def nearest_or_all(name: str, known: Iterable[str]) -> str:
    """The same, and where none is near `; known here: a, b`, as many as a line has room for."""
    names = sorted(known)
    shown = names if len(names) <= _ROOM else [*names[:_ROOM], f"{len(names) - _ROOM} more"]
    return nearest(name, names) or (f"; known here: {', '.join(shown)}" if names else "")


def one_of(names: Iterable[str]) -> str:
    """`expected one of a, b, c`."""
    return f"expected one of {', '.join(names)}"
