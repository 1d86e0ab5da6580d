"""Reads a Dockerfile and a .dockerignore as Docker does, as far as ours use them."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Step:
    """One instruction: RUN and its like with the text behind it, variables not yet replaced."""

    name: str
    text: str

    def words(self) -> list[str]:
        """The parts of the exec form, or of text."""
        return [str(word) for word in json.loads(self.text)] if self.text.startswith("[") else self.text.split()


@dataclass(slots=True)
class Stage:
    """What follows one FROM. `variables`: ARG and ENV up to its end."""

    image: str
    name: str
    steps: list[Step] = field(default_factory=list)

    def said(self, name: str) -> list[Step]:
        """All instructions of one name."""
        return [step for step in self.steps if step.name == name]

    def last(self, name: str) -> Step:
        """The one that counts where only the last does."""
        return self.said(name)[-1]


def parse(text: str) -> list[Stage]:
    """The stages. Raises ValueError where a line is no instruction of Docker's."""
    arguments: dict[str, str] = {}
    stages: list[Stage] = []
    for step in instructions(text):
        if step.name == "FROM":
            image, _, name = replaced(step.text, arguments).partition(" AS ")
            stages.append(Stage(image, name))
        elif stages:
            stages[-1].steps.append(step)
        elif step.name == "ARG":
            name, _, value = step.text.partition("=")
            arguments[name] = value
        else:
            raise ValueError(f"{step.name} before FROM")
    return stages


KNOWN = frozenset(
    "ADD ARG CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK LABEL ONBUILD RUN SHELL STOPSIGNAL USER VOLUME "
    "WORKDIR".split()
)


def instructions(text: str) -> Iterator[Step]:
    """Each instruction, its lines joined and comments left out."""
    lines = (line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#"))
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).split("\n"):
        name, _, rest = line.partition(" ")
        if name not in KNOWN:
            raise ValueError(f"not an instruction: {line}")
        yield Step(name, rest.strip())


def replaced(text: str, variables: Mapping[str, str]) -> str:
    """The text with `${NAME}` and `$NAME` replaced. Raises KeyError where there is no such variable."""
    return re.sub(r"\$\{?(\w+)\}?", lambda match: variables[match[1]], text)


def pairs(text: str) -> dict[str, str]:
    """What ENV, LABEL or ARG sets: `a=b c="d e"`."""
    return {name: value.strip('"') for name, value in re.findall(r'([\w.]+)=("[^"]*"|\S*)', text)}


def context(root: Path) -> set[str]:
    """The files that .dockerignore lets through, as paths from `root`; the last pattern that fits decides."""
    patterns = [line for line in (root / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    tops = {pattern[1:].split("/")[0] for pattern in patterns if pattern.startswith("!")}
    files = (file for top in tops for file in [root / top, *(root / top).rglob("*")] if file.is_file())
    return {path for file in files if not _ignored(path := file.relative_to(root).as_posix(), patterns)}


def _ignored(path: str, patterns: list[str]) -> bool:
    ignored = False
    for pattern in patterns:
        if _fits(path, pattern.removeprefix("!")):
            ignored = not pattern.startswith("!")
    return ignored


def _fits(path: str, pattern: str) -> bool:
    """Whether a pattern names the path or a folder above it; `**/` stands for any folders, or none."""
    parts = path.split("/")
    above = ["/".join(parts[:length]) for length in range(1, len(parts) + 1)]
    if pattern.startswith("**/"):
        return any(fnmatch(part, pattern[3:]) for part in parts)
    return any(
        pattern == folder or ("*" in pattern and "/" not in folder and fnmatch(folder, pattern)) for folder in above
    )
