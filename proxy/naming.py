"""Finds what a misspelled name was probably meant to be."""

import difflib
from collections.abc import Iterable
from typing import Final

_FEW: Final = 20  # names that are compared however far they are


def nearest(name: str, known: Iterable[str]) -> str:
    """A sentence with up to three known names close to this one, else with the nearest of a few known, or nothing."""
    names = list(known)[:5000]
    if close := difflib.get_close_matches(name, names, n=3, cutoff=0.5):
        return f" Did you mean {', '.join(close)}?"
    if not names or len(names) > _FEW:
        return ""
    return f" The nearest here: {', '.join(difflib.get_close_matches(name, names, n=3, cutoff=0.0))}."
