"""Secrets and variables of a foreign configuration as `${NAME}`: the output never contains a secret."""

import re
from dataclasses import dataclass, field
from typing import Final

from proxy.importing.findings import Findings

_ENVIRON: Final = "os.environ/"
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def literal(text: str) -> str:
    """A text in the notation of config.yaml, with dollar signs escaped."""
    return re.sub(r"\$(?=[${])", "$$", text)


def named(text: object) -> str | None:
    """The variable in LiteLLM's `os.environ/NAME`; None: it is none."""
    if isinstance(text, str) and text.startswith(_ENVIRON) and _NAME.fullmatch(text.removeprefix(_ENVIRON)):
        return text.removeprefix(_ENVIRON)
    return None


def plain(text: str) -> str:
    """A text that is no secret: a variable, or itself."""
    name = named(text)
    return f"${{{name}}}" if name else literal(text)


@dataclass(slots=True)
class Variables:
    """Names for secrets: one name per secret and one secret per name."""

    findings: Findings
    taken: set[str]  # names used in the file
    _names: dict[str, str] = field(default_factory=dict, repr=False)  # by secret

    def secret(self, value: str, path: str, wanted: str) -> str:
        """`${NAME}` for a secret; `wanted`: the preferred name if the file contains the secret itself."""
        if name := named(value):
            self.findings.exact(path, f"read from the variable {name}")
            return f"${{{name}}}"
        known = self._names.get(value)
        if known is None:
            known = self._names[value] = self._free(re.sub(r"[^A-Z0-9]+", "_", wanted.upper()).strip("_"))
        self.findings.approximate(path, f"the file contains the value itself: put it into .env as {known}")
        return f"${{{known}}}"

    def _free(self, wanted: str) -> str:
        wanted = wanted if _NAME.fullmatch(wanted) else f"SECRET_{wanted}"
        name, number = wanted, 2
        while name in self.taken:
            name, number = f"{wanted}_{number}", number + 1
        self.taken.add(name)
        return name
