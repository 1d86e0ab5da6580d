"""The verdict on each field of a foreign configuration. Findings never contain values, which may be secrets."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

Verdict = Literal["exact", "approximate", "unsupported"]
"""Same meaning here · nearly the same, the text names the difference · no counterpart, left out."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One field and its verdict."""

    verdict: Verdict
    path: str  # "model_list[0].litellm_params.rpm"
    text: str

    def __str__(self) -> str:
        return f"{self.verdict:<11}  {self.path}: {self.text}"


@dataclass(slots=True)
class Findings:
    """All findings of one import, each once."""

    found: dict[Finding, None] = field(default_factory=dict)

    def exact(self, path: str, text: str) -> None:
        """The field has the same meaning here."""
        self._add(Finding("exact", path, text))

    def approximate(self, path: str, text: str) -> None:
        """The field has nearly the same meaning."""
        self._add(Finding("approximate", path, text))

    def unsupported(self, path: str, text: str = "has no counterpart in Sluice; left out") -> None:
        """The field is left out."""
        self._add(Finding("unsupported", path, text))

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.found)

    def _add(self, finding: Finding) -> None:
        self.found[finding] = None

    def count(self, verdict: Verdict) -> int:
        """How many fields got this verdict."""
        return sum(finding.verdict == verdict for finding in self.found)
