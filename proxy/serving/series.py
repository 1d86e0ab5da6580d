"""Bounds the series of all workers together: the first that come are told apart, all later ones count as `other`."""

from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import orjson

from proxy.instruments import Labels

MOST: Final = 9_000
"""Lines of a scrape that are such series; a few more are those in which all others are counted."""


@dataclass(slots=True)
class SeriesLimit:
    """One worker's view of the file where all of them write down, line by line, which series they tell apart.

    So it is the same ones whichever worker is scraped. What was told once stays: a counter that went on under another
    name would be taken for one that began anew.
    """

    path: Path
    most: int = MOST
    _admitted: dict[str, set[Labels]] = field(default_factory=dict)
    _lines: int = 0
    _read: int = 0  # bytes of the file

    def admitted(self, family: str, asked: Iterable[Labels], lines: int) -> Container[Labels]:
        """Those of the family that are told of; `lines`: how many a scrape gets of each."""
        admitted = self._admitted.setdefault(family, set())
        new = [values for values in asked if values not in admitted][: max(0, self.most - self._lines) // lines]
        try:
            with self.path.open("ab+", buffering=0) as file:
                if new:  # in one piece, behind what others write at the same time
                    file.write(b"".join(orjson.dumps((lines, family, *values)) + b"\n" for values in new))
                file.seek(self._read)
                for line in file.read().splitlines(keepends=True):
                    if not line.endswith(b"\n"):  # somebody is writing it
                        break
                    self._read += len(line)
                    self._note(*orjson.loads(line))
        except (OSError, ValueError, TypeError):
            pass  # what could not be written down, or read, is counted among the others
        return admitted

    def _note(self, lines: int, family: str, *values: str) -> None:
        admitted = self._admitted.setdefault(family, set())
        if (
            values not in admitted and self._lines + lines <= self.most
        ):  # the file's order decides, for every worker alike
            admitted.add(values)
            self._lines += lines
