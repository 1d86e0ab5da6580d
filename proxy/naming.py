"""Finds what a misspelled name was probably meant to be."""

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str:
    """A sentence that names up to three known names close to this one, or nothing."""
    close = difflib.get_close_matches(name, list(known)[:5000], n=3, cutoff=0.5)
    return f" Did you mean {', '.join(close)}?" if close else ""
