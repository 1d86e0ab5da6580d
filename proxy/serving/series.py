"""Limits the metric series of all workers together: the first are admitted, later ones count as `other`."""

from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import orjson

from proxy.instruments import Labels

MOST: Final = 9_000
"""Lines of a scrape for such series; the `other` series add a few more."""


@dataclass(slots=True)
class SeriesLimit:
    """One worker's view of a file in which all workers record, line by line, which series have been admitted.

    So it is the same ones in every worker. A series that has been admitted stays: moving its count to another name
    would look like a counter reset.
    """

    path: Path
    most: int = MOST
    _admitted: dict[str, set[Labels]] = field(default_factory=dict)
    _lines: int = 0
    _read: int = 0  # bytes of the file read so far

    def admitted(self, family: str, asked: Iterable[Labels], lines: int) -> Container[Labels]:
        """The admitted label values of this family, including as many of `asked` as fit.

        `lines`: how many lines each takes in a scrape.
        """
        admitted = self._admitted.setdefault(family, set())
        new = [values for values in asked if values not in admitted][: max(0, self.most - self._lines) // lines]
        try:
            with self.path.open("ab+", buffering=0) as file:
                if new:  # in one write: appended after concurrent writes of others
                    file.write(b"".join(orjson.dumps((lines, family, *values)) + b"\n" for values in new))
                file.seek(self._read)
                for line in file.read().splitlines(keepends=True):
                    if not line.endswith(b"\n"):  # another worker is still writing it
                        break
                    self._read += len(line)
                    self._note(*orjson.loads(line))
        except (OSError, ValueError, TypeError):
            pass  # what could not be written or read counts as `other`
        return admitted

    def _note(self, lines: int, family: str, *values: str) -> None:
        admitted = self._admitted.setdefault(family, set())
        if (
            values not in admitted and self._lines + lines <= self.most
        ):  # the order in the file decides, equally for every worker
            admitted.add(values)
            self._lines += lines
