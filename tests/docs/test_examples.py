"""Whatever README.md and docs/ show by example is true: YAML loads, JSON parses, paths exist, links lead somewhere."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from proxy.doors.openapi import document
from proxy.doors.table import normalize_path
from proxy.importing.litellm import convert
from tests.importing.running import planned

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
PATHS = {
    re.sub(r"\{\w+\}", "*", normalize_path(path)): set(methods) for path, methods in document("1")["paths"].items()
}
ALSO_SERVED = {"/healthz", "/health/liveliness", "/health/readiness"}


def blocks(language: str) -> Iterator[tuple[str, str]]:
    """`(file:line, text)` of every code block in this language."""
    for page in PAGES:
        text = page.read_text("utf-8")
        for found in BLOCK.finditer(text):
            if found[1] == language:
                yield f"{page.name}:{text.count(chr(10), 0, found.start()) + 1}", found[2]


CONFIGURATIONS = [(place, text) for place, text in blocks("yaml") if re.search(r"^upstreams:", text, re.M)]


def test_the_documentation_has_example_configurations() -> None:
    assert len(CONFIGURATIONS) >= 10


@pytest.mark.parametrize("text", [text for _, text in CONFIGURATIONS], ids=[place for place, _ in CONFIGURATIONS])
def test_every_configuration_loads_and_its_routing_tests_pass(text: str, tmp_path: Path) -> None:
    planned(tmp_path, text)


def test_every_body_that_curl_sends_is_json() -> None:
    bodies = [body for _, text in blocks("sh") for body in re.findall(r"-d '(\{.*?\})'", text, re.S)]
    assert bodies and all(isinstance(json.loads(body), dict) for body in bodies)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_address_of_ours_is_served(page: Path) -> None:
    text = page.read_text("utf-8")
    for path in re.findall(r"http://127\.0\.0\.1:8080(/[\w./-]*)", text):
        assert path == "/v1" or normalize_path(path) in PATHS, path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_method_with_a_path_is_served(page: Path) -> None:
    for method, path in re.findall(r"`(GET|POST|PUT|PATCH|DELETE) (/[\w./{}-]*)", page.read_text("utf-8")):
        known = PATHS.get(re.sub(r"\{\w+\}", "*", normalize_path(path)), set())
        assert method.lower() in known or path in ALSO_SERVED, f"{method} {path}"


def test_the_http_api_page_leaves_no_path_out() -> None:
    text = (ROOT / "docs" / "http-api.md").read_text("utf-8")
    left_out = {path for path in document("1")["paths"] if path not in text}
    assert left_out <= {"/admin/login", "/admin/logout"}, left_out


def anchors(text: str) -> set[str]:
    """The anchors that headings get, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", re.sub(BLOCK, "", text), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(BLOCK, "", page.read_text("utf-8"))):
        if link.startswith("https://"):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text("utf-8")), link


def test_the_migration_page_shows_what_the_import_makes() -> None:
    text = (ROOT / "docs" / "migrating-from-litellm.md").read_text("utf-8")
    (given,) = [block for language, block in BLOCK.findall(text) if block.startswith("model_list:")]
    (ours,) = [block for language, block in BLOCK.findall(text) if language == "yaml"]
    made = yaml.safe_load(convert(given).text)
    made["tests"] = made["tests"][:1]  # the page shows one of them
    assert made == yaml.safe_load(ours)


def test_the_reference_and_the_json_schema_are_up_to_date() -> None:
    command = [sys.executable, str(ROOT / "docs" / "build_configuration.py"), "--check"]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
