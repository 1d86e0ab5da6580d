"""The OpenAPI document against the endpoints of a running proxy, and against itself."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from proxy.app import Sluice
from proxy.doors.documents import Documents
from proxy.doors.openapi import document
from proxy.doors.table import normalize_path
from tests.running import sluice

CONFIG = "upstreams: {o: {provider: openai, base_url: 'http://127.0.0.1:9/v1'}}\nvapi: {secret: s}\n"
ALSO_KNOWN_AS = {"/healthz", "/health/liveliness", "/health/readiness", "/vapi/v1/chat/completions"}
ALSO_KNOWN_AS |= {"/docs/style.css", "/docs/icon.svg"}  # parts of /docs
FILES = "/static/*"
DOCUMENT: dict[str, Any] = json.loads(json.dumps(document("1.2.3")))


@pytest.fixture(scope="module")
def table() -> Iterator[set[tuple[str, str, str]]]:
    """`(method, path, access)` of every endpoint that the app serves, in the document's spelling."""
    with sluice(CONFIG) as running:
        yield set(served(running.app))


def served(app: Sluice) -> Iterator[tuple[str, str, str]]:
    for endpoint in (*app.runtime.front.table.endpoints, *Documents().endpoints()):
        if endpoint.path not in ALSO_KNOWN_AS and endpoint.path != FILES:
            for method in endpoint.methods - {"HEAD"}:
                yield method.lower(), endpoint.path, endpoint.access


def described() -> Iterator[tuple[str, str]]:
    for path, methods in DOCUMENT["paths"].items():
        for method in methods:
            yield method, re.sub(r"\{\w+\}", "*", normalize_path(path))


def test_what_the_app_serves_is_described_and_nothing_else(table: set[tuple[str, str, str]]) -> None:
    assert {(method, path) for method, path, _ in table} == set(described())


def test_keys_are_asked_for_where_the_app_asks_for_them(table: set[tuple[str, str, str]]) -> None:
    shown = {"client": "clientKey", "chat": "clientKey", "vapi": "vapiSecret"}
    shown |= {"desk": "adminToken", "admin": "adminToken"}
    methods = {
        (method, re.sub(r"\{\w+\}", "*", normalize_path(path))): operation
        for path, operations in DOCUMENT["paths"].items()
        for method, operation in operations.items()
    }
    for method, path, access in table:
        keys = {name for scheme in methods[method, path]["security"] for name in scheme}
        assert (shown[access] in keys) if access in shown else access == "metrics" or not keys, path


def test_every_reference_leads_somewhere() -> None:
    for reference in re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(DOCUMENT)):
        found: Any = DOCUMENT
        for step in reference.split("/"):
            found = found[step]
        assert found


def test_every_schema_and_operation_id_is_used_once_at_least_and_once_at_most() -> None:
    written = json.dumps(DOCUMENT)
    for name in DOCUMENT["components"]["schemas"]:
        assert f'"#/components/schemas/{name}"' in written, name
    ids = [operation["operationId"] for operations in DOCUMENT["paths"].values() for operation in operations.values()]
    assert len(ids) == len(set(ids))


def test_parameters_of_paths_are_declared() -> None:
    for path, operations in DOCUMENT["paths"].items():
        for operation in operations.values():
            declared = {part["name"] for part in operation.get("parameters", ()) if part["in"] == "path"}
            assert declared == set(re.findall(r"\{(\w+)\}", path)), path
