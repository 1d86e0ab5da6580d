"""Every dependency is in the list of licences and in the SBOM: those of lock files, and scripts of the pages."""

import hashlib
import json
import re
from typing import Any

import pytest

from docs.build_licences import LOCKS, OUT, VENDOR, licence_of, pinned, sbom, scopes, vendored

ROWS = [tuple(row.strip("| ").split(" | ")) for row in OUT.read_text().splitlines() if row.startswith("| ")]


@pytest.fixture(scope="module")
def bom() -> Any:
    return json.loads(sbom())


def pins() -> set[tuple[str, str]]:
    """Names and versions, read in the plainest way."""
    texts = [lock.read_text() for lock in LOCKS.glob("*.lock")]
    return {(name, version) for text in texts for name, version in re.findall(r"^(\S+?)==(\S+)", text, re.M)}


def test_lock_files_are_read_whole() -> None:
    found = {(each.name, each.version) for lock in LOCKS.glob("*.lock") for each in pinned(lock)}
    assert found == pins() and len(found) > 70
    wanted = {name for each in scopes() for name in each.via if not name.startswith(("sluice ", "-r "))}
    assert wanted <= {name for name, _ in found}


def test_every_pinned_package_and_script_is_listed_with_a_licence() -> None:
    listed = {row[:2]: row[2] for row in ROWS if len(row) == 4}
    assert pins() | {(each.name, each.version) for each in vendored()} <= listed.keys()
    assert not [name for name, licence in listed.items() if licence in ("", "UNKNOWN", "not installed here")]


def test_what_is_needed_for_tests_alone_is_not_said_to_be_installed() -> None:
    parts = {row[0]: row[3] for row in ROWS if len(row) == 4}
    assert (
        parts["starlette"] == "every install" and parts["redis"] == "an extra" and parts["pytest"] == "build or tests"
    )
    assert parts["hatchling"] == "build or tests" and parts["h11"] == "every install"


def test_the_sbom_names_everything_once(bom: Any) -> None:
    refs = [each["bom-ref"] for each in bom["components"]]
    assert len(refs) == len(set(refs))
    assert {f"pkg:pypi/{name}@{version}" for name, version in pins()} < set(refs)
    assert set(refs) >= {each.purl for each in vendored()}
    assert sbom() == sbom(), "it is the same for the same tree"


def test_the_sboms_graph_leads_to_everything_that_is_installed(bom: Any) -> None:
    wants = {each["ref"]: each["dependsOn"] for each in bom["dependencies"]}
    assert wants.keys() == {each["bom-ref"] for each in bom["components"]} | {"sluice"}
    todo, seen = ["sluice"], set[str]()
    while todo:
        ref = todo.pop()
        todo += [each for each in wants[ref] if each not in seen]
        seen.add(ref)
    installed = {each["bom-ref"] for each in bom["components"] if each["scope"] != "excluded"}
    assert installed < seen


def test_the_sbom_has_the_hash_of_every_file_that_is_copied_here(bom: Any) -> None:
    noted = {
        file["name"]: file["hashes"][0]["content"] for each in bom["components"] for file in each.get("components", ())
    }
    copied = [path for path in VENDOR.iterdir() if path.suffix in (".js", ".css")]
    assert noted == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in copied}


def test_a_licence_is_spdx_where_the_metadata_leaves_no_doubt() -> None:
    assert licence_of("starlette") == "BSD-3-Clause" and licence_of("pyyaml") == "MIT"
    assert licence_of("no-such-package") == "not installed here"
