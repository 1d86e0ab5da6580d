"""Problems of a configuration with their positions, and the one error that reports them all."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Final, Literal

Path = tuple[str | int, ...]
"""The position of a value: ("routes", 0, "to"). Keys are strings, list items are numbers from 0."""

Kind = Literal["text", "a number", "true or false", "nothing", "a list", "a mapping"]


_NEVER_SHOWN: Final = frozenset(
    {"api_key", "admin_token", "client_keys", "secret", "headers", "base_url", "proxy", "store", "url"}
)
_ROOM: Final = 30  # most names in one line


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a key (or a list item) is written, line and column from 1, and its value as written."""

    line: int
    column: int
    kind: Kind = "text"
    written: str = ""  # a scalar as written, before variables are replaced


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem. Line 0: of the file as a whole. Texts never hold a secret or a variable's value."""

    line: int
    column: int
    path: str  # dotted: "upstreams.local.provider"; "": none
    message: str
    file: str = ""  # "": the configuration file itself

    def text(self, file: str) -> str:
        """`config.yaml:12:5: upstreams.local.provider: expected …`, always on one line."""
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
    """Collects problems while a file is read; only the first of each path, since others follow from it."""

    marks: Mapping[Path, Mark] = field(default_factory=dict)
    found: dict[Path, Problem] = field(default_factory=dict)

    def add(self, path: Path, message: str, mark: Mark | None = None) -> None:
        """Notes a problem at the position of `path`, or of its nearest parent."""
        mark = mark or self.mark(path)
        self.found.setdefault(path, Problem(mark.line, mark.column, dotted(path), message))

    def inside(self, path: Path) -> bool:
        """Whether there is a problem within `path`."""
        return any(at[: len(path)] == path for at in self.found)

    def mark(self, path: Path) -> Mark:
        """The mark of `path`, or of its nearest parent."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.marks:
                return self.marks[path[:length]]
        return Mark(1, 1)


def holds_secret(path: Path) -> bool:
    """Whether the value there may be or contain a secret: it is never quoted."""
    return not _NEVER_SHOWN.isdisjoint(path)


def printable(text: str) -> str:
    """The text with unprintable characters escaped: it cannot break a line or control a terminal."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def dotted(path: Path) -> str:
    """("routes", 0, "to") as `routes.0.to`."""
    return ".".join(map(str, path))


def suggestion(name: str, known: Iterable[str]) -> str:
    """`; did you mean "x"?` for the most similar known name, "" if none is similar."""
    close = get_close_matches(name, sorted(known), n=1)
    return f'; did you mean "{close[0]}"?' if close else ""


def suggestion_or_all(name: str, known: Iterable[str]) -> str:
    """The same, or else `; known here: a, b`, with as many names as fit in a line."""
    names = sorted(known)
    shown = names if len(names) <= _ROOM else [*names[:_ROOM], f"{len(names) - _ROOM} more"]
    return suggestion(name, names) or (f"; known here: {', '.join(shown)}" if names else "")


def one_of(names: Iterable[str]) -> str:
    """`expected one of a, b, c`."""
    return f"expected one of {', '.join(names)}"
