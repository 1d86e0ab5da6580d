"""A vector index: questions compared one by one with all others of their scope (numpy; extra `semantic`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

MOST: Final = 100_000  # questions
_TEXT: Final = 1024  # bytes of a question's text and index entry, estimated generously
_FEW: Final = 256  # up to so many questions of a scope are compared one by one

Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Near:
    """An indexed question, the key of its answer, and its cosine similarity."""

    key: bytes
    text: str
    score: float


@dataclass(slots=True)
class _Row:
    scope: bytes
    key: bytes
    text: str


class Index:
    """At most `max_bytes` of questions; the oldest are dropped first. For use by one thread."""

    def __init__(self, max_bytes: int, most: int = MOST) -> None:
        self._max_bytes, self._most = max_bytes, most
        self._reset(0, 0)

    def _reset(self, rows: int, size: int) -> None:
        self._vectors: Vector = np.empty((rows, size), np.float32)  # the system allocates pages as it fills
        self._numbers: NDArray[np.int64] = np.empty(rows, np.int64)  # of each row's scope
        self._rows: list[_Row] = []
        self._places: dict[bytes, int] = {}  # by key
        self._scopes: dict[bytes, dict[int, None]] = {}  # the rows of each
        self._number_of: dict[bytes, int] = {}
        self._numbered = 0
        self._next = 0

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, scope: bytes, vector: Sequence[float] | Vector, text: str, key: bytes) -> None:
        """Adds a question, replacing an earlier one with the same key."""
        unit = _unit(vector)
        if self._vectors.shape[1] != len(unit):
            # Vectors of another length come from another model and cannot be compared with the present ones.
            self._reset(min(self._most, self._max_bytes // (len(unit) * 4 + _TEXT)), len(unit))
        if not len(self._vectors):
            return
        place = self._places.get(key)
        if place is None:
            place = self._next
            self._next = (place + 1) % len(self._vectors)
        if place < len(self._rows):
            self._forget(place)
            self._rows[place] = _Row(scope, key, text)
        else:
            self._rows.append(_Row(scope, key, text))
        if scope not in self._number_of:
            self._numbered += 1
            self._number_of[scope] = self._numbered
        self._vectors[place], self._numbers[place] = unit, self._number_of[scope]
        self._places[key] = place
        self._scopes.setdefault(scope, {})[place] = None

    def nearest(self, scope: bytes, vector: Sequence[float] | Vector, least: float, most: int = 4) -> list[Near]:
        """The questions of this scope with at least this similarity, the most similar first."""
        places, unit = self._scopes.get(scope), _unit(vector)
        if not places or self._vectors.shape[1] != len(unit):
            return []
        if len(places) <= _FEW:
            rows = np.fromiter(places, np.int64, len(places))
            scores = self._vectors[rows] @ unit
        else:
            used = len(self._rows)
            scores = self._vectors[:used] @ unit
            rows = np.flatnonzero((self._numbers[:used] == self._number_of[scope]) & (scores >= least))
            scores = scores[rows]
        order = np.argsort(-scores)[:most]
        found = [(self._rows[rows[at]], float(scores[at])) for at in order]
        return [Near(row.key, row.text, score) for row, score in found if score >= least]

    def _forget(self, place: int) -> None:
        row = self._rows[place]
        del self._places[row.key]
        places = self._scopes[row.scope]
        del places[place]
        if not places:
            del self._scopes[row.scope], self._number_of[row.scope]


def _unit(vector: Sequence[float] | Vector) -> Vector:
    """The vector scaled to length 1; one without a direction matches nothing."""
    made = np.asarray(vector, np.float32)
    length = float(np.linalg.norm(made))
    return made / np.float32(length) if 0.0 < length < float("inf") else np.zeros_like(made)
