"""Replays a Dockerfile without Docker: the same steps in folders of this machine, with the Python of the tests."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.deploy.dockerfile import Stage, context, pairs, replaced

NO_INDEX = ("Failed to establish a new connection", "Temporary failure in name resolution", "Connection refused")
"""How pip says that it reaches no package index."""

MOVED = ("/opt/sluice", "/src", "/etc/sluice", "/var/lib/sluice")
"""Folders of the image; each stands under the root of the replay."""


@dataclass(slots=True)
class Replay:
    """An image as a folder. The steps that make a user are left out: they would change this machine."""

    source: Path
    root: Path
    wheels: Path  # what was downloaded, from one run of the tests to the next
    environ: dict[str, str] = field(default_factory=dict)
    folder: str = "/"

    def build(self, stage: Stage) -> None:
        """Does every step of a stage. Raises AssertionError where one fails."""
        self.environ, self.folder = {}, "/"
        variables: dict[str, str] = {}
        for step in stage.steps:
            text = replaced(step.text, variables) if step.name in ("COPY", "ENV", "RUN", "WORKDIR") else step.text
            match step.name:
                case "ARG":
                    variables |= pairs(text)
                case "ENV":
                    self.environ |= pairs(text)
                case "WORKDIR":
                    self.folder = text
                    self.moved(text).mkdir(parents=True, exist_ok=True)
                case "COPY":
                    self._copy(text.split())
                case "RUN":
                    self._run(text, variables)
                case _:
                    pass  # says something of the image, and does nothing

    def moved(self, path: str) -> Path:
        """Where a path of the image is."""
        return self.root / path.removeprefix("/")

    def relocated(self, text: str) -> str:
        """A text with the image's folders in it replaced."""
        return re.sub(rf"(?<![\w/])({'|'.join(MOVED)})\b", lambda match: f"{self.root}{match[1]}", text)

    def environment(self, more: Mapping[str, str]) -> dict[str, str]:
        """ENV with its folders replaced, and this machine's pip cache and certificates."""
        kept = {
            name: text for name, text in os.environ.items() if name.startswith(("PIP_", "SSL_", "HTTP", "NO_PROXY"))
        }
        kept["HOME"] = os.environ.get("HOME", "/")
        return kept | {name: self.relocated(text) for name, text in self.environ.items()} | dict(more)

    def _copy(self, words: list[str]) -> None:
        if words[0].startswith("--from="):
            assert words[1] == words[2], "all stages share one root here"
            return
        *sources, target = words
        to = self.moved(target if target.startswith("/") else f"{self.folder}/{target}")
        files = context(self.source)
        for source in sources:
            found = [path for path in files if path == source or path.startswith(f"{source}/")]
            assert found, f"COPY {source}: .dockerignore keeps it out, or it is not there"
            for path in found:
                inside = path.removeprefix(source).strip("/")
                single = to / source if target.endswith("/") else to
                place = to / inside if inside else single
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(self.source / path, place)

    def _run(self, text: str, variables: Mapping[str, str]) -> None:
        if "useradd" in text:
            self.moved("/var/lib/sluice").mkdir(parents=True)
            return
        environ = dict(variables)
        if lock := re.search(r"pip install .*-r (\S+\.lock)", text):
            environ |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": self._downloaded(text, lock[1], variables).as_uri()}
        self._shell(text, environ)

    def _downloaded(self, text: str, lock: str, variables: Mapping[str, str]) -> Path:
        """The folder with the wheels that a step installs; it checks their hashes itself."""
        pinned = (self.moved(self.folder) / lock).read_bytes()
        folder = self.wheels / hashlib.sha256(pinned + sys.version.encode()).hexdigest()[:16]
        if not folder.exists():
            shutil.rmtree(self.wheels, ignore_errors=True)  # of another lock file or Python, or half of them
            began = folder.with_suffix(".part")
            self._shell(text.replace("pip install", "pip download", 1), dict(variables) | {"PIP_DEST": str(began)})
            began.rename(folder)
        return folder

    def _shell(self, text: str, variables: Mapping[str, str]) -> None:
        environ = self.environment({"PIP_RETRIES": "1", "PATH": f"{self._python()}:/usr/bin:/bin"} | dict(variables))
        tried = subprocess.run(
            ["/bin/sh", "-c", self.relocated(text)],
            cwd=self.moved(self.folder), env=environ, capture_output=True, text=True,
        )  # fmt: skip
        said = tried.stdout + tried.stderr
        if tried.returncode and any(reason in said for reason in NO_INDEX):
            pytest.skip("pip reaches no package index, so the steps of the Dockerfile cannot be replayed")
        assert tried.returncode == 0, f"RUN {text}\n{said}"

    def _python(self) -> Path:
        """A folder with the Python of the tests under the image's name for it, which Debian's own lacks."""
        folder = self.root.with_name(f"{self.root.name}-python")
        if not folder.exists():
            folder.mkdir()
            (folder / "python").write_text(f'#!/bin/sh\nexec {Path(sys.executable).resolve()} "$@"\n')
            (folder / "python").chmod(0o755)
        return folder
