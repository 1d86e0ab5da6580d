"""Suggests known names for a misspelled one."""

import difflib
from collections.abc import Iterable
from typing import Final

_FEW: Final = 20  # with at most so many known names, the closest is suggested however different


def suggestion(name: str, known: Iterable[str]) -> str:
    """A sentence with up to three similar known names; with few known names, the closest; else ""."""
    names = list(known)[:5000]
    if close := difflib.get_close_matches(name, names, n=3, cutoff=0.5):
        return f" Did you mean {', '.join(close)}?"
    if not names or len(names) > _FEW:
        return ""
    return f" The closest known names: {', '.join(difflib.get_close_matches(name, names, n=3, cutoff=0.0))}."
