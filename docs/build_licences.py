"""Writes docs/licences.md and, with --sbom FILE, a CycloneDX list: what Sluice is made of, by its lock files."""

import argparse
import re
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

import orjson

ROOT = Path(__file__).parent.parent
LOCK = ROOT / "requirements" / "dev.lock"
HEAD = """# Licences

Sluice itself is Apache-2.0. Every package of `requirements/dev.lock`, extras and tests included, as its own metadata
says; written by `docs/build_licences.py`.

| package | version | licence |
|---|---|---|"""
OUT = Path(__file__).with_name("licences.md")


def pinned(lock: Path) -> dict[str, str]:
    """Versions by package, as the lock file has them for this interpreter's platform or any."""
    found = re.findall(r"^([a-z0-9][a-z0-9._-]*)==([^\s;\\]+)", lock.read_text(), re.M)
    return dict(found)


def licence_of(name: str) -> str:
    """What the package says of its licence; "not installed here" where it is for another platform or version."""
    try:
        said = metadata(name)
    except PackageNotFoundError:
        return "not installed here"
    expression = said["License-Expression"] if "License-Expression" in said else ""
    classified = [
        line.rpartition(" :: ")[2] for line in said.get_all("Classifier") or [] if line.startswith("License ::")
    ]
    text = (said["License"] if "License" in said else "").strip().split("\n")[0]
    return expression or ", ".join(classified) or text[:80] or "not said"


def table(packages: dict[str, str]) -> str:
    """The document."""
    rows = [f"| {name} | {version} | {licence_of(name)} |" for name, version in sorted(packages.items())]
    return "\n".join((HEAD, *rows, ""))


def sbom(packages: dict[str, str]) -> bytes:
    """CycloneDX 1.6 as JSON; packages are named by purl, which names no host."""
    components = [
        {
            "type": "library",
            "name": name,
            "version": version,
            "purl": f"pkg:pypi/{name}@{version}",
            "licenses": [{"license": {"name": licence_of(name)}}],
        }
        for name, version in sorted(packages.items())
    ]
    return orjson.dumps(
        {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": components},
        option=orjson.OPT_INDENT_2,
    )


def main() -> None:
    """Writes what was asked for."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--sbom", type=Path)
    said = asked.parse_args()
    packages = pinned(LOCK)
    OUT.write_text(table(packages))
    if said.sbom:
        said.sbom.write_bytes(sbom(pinned(ROOT / "requirements" / "local.lock")))


if __name__ == "__main__":
    main()
