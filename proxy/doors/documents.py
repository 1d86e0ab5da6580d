"""The API documentation: `/openapi.json` for programs, `/docs` for people, without scripts or external resources."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any, Final

import orjson
from starlette.types import Receive, Scope, Send

from proxy import __version__
from proxy.call import Headers
from proxy.doors.front import respond
from proxy.doors.openapi import document
from proxy.doors.table import App, Endpoint

_READING: Final = frozenset({"GET", "HEAD"})
_POLICY: Final = b"default-src 'self'; script-src 'none'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'"
_TITLES: Final = {
    "Calls": "Calls: through the routing table",
    "Models": "Models",
    "Pages": "Chat page",
    "Vapi": "Vapi (only where vapi.secret is set)",
    "Operations": "Health, metrics, documents",
    "Admin": "Admin",
}


def _described() -> Mapping[str, Any]:
    return document(__version__)


@dataclass(frozen=True, slots=True)
class Documents:
    """The document and its page, rendered once."""

    described: Mapping[str, Any] = field(default_factory=_described)

    def endpoints(self) -> list[Endpoint]:
        """What this door adds to the table."""
        style = Path(__file__).with_name("documents.css").read_bytes()
        icon = Path(__file__).with_name("pages").joinpath("static", "icon.svg").read_bytes()
        policy = (b"content-security-policy", _POLICY)
        return [
            Endpoint("/openapi.json", _READING, "open", _sending(orjson.dumps(self.described), b"application/json")),
            Endpoint(
                "/docs", _READING, "open", _sending(page(self.described).encode(), b"text/html; charset=utf-8", policy)
            ),
            Endpoint("/docs/style.css", _READING, "open", _sending(style, b"text/css; charset=utf-8")),
            Endpoint("/docs/icon.svg", _READING, "open", _sending(icon, b"image/svg+xml")),
        ]


def _sending(body: bytes, kind: bytes, *more: tuple[bytes, bytes]) -> App:
    headers: Headers = [
        (b"content-type", kind),
        (b"x-content-type-options", b"nosniff"),
        (b"cache-control", b"no-cache"),
        *more,
    ]

    async def sent(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(scope, send, 200, body, headers)

    return sent


def page(described: Mapping[str, Any]) -> str:
    """The document as one HTML page."""
    info = described["info"]
    tags: dict[str, list[str]] = {}
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            shown = _credentials(operation["security"], described["components"]["securitySchemes"])
            tags.setdefault(operation["tags"][0], []).append(_operation(path, method, operation, shown))
    parts = [_section(tag, _TITLES[tag], found) for tag, found in tags.items()]
    parts.append(_section("Schemas", "Schemas", itertools.starmap(_schema, described["components"]["schemas"].items())))
    links = "".join(f'<a href="#{tag}">{escape(_TITLES[tag])}</a>' for tag in tags)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>Sluice: HTTP API</title>'
        '<link rel="icon" href="/docs/icon.svg" type="image/svg+xml">'
        '<link rel="stylesheet" href="/docs/style.css"></head><body><main>'
        f'<h1>{escape(info["title"])}: HTTP API</h1><p class="muted">Version {escape(info["version"])} · '
        f'<a href="/openapi.json">openapi.json</a></p><p>{escape(info["description"])}</p>'
        f'<nav aria-label="Sections">{links}<a href="#Schemas">Schemas</a></nav>{"".join(parts)}'
        "</main></body></html>"
    )


def _section(id: str, title: str, parts: Iterable[str]) -> str:
    return f'<section id="{id}"><h2>{escape(title)}</h2>{"".join(parts)}</section>'


# The id is on an element inside <details>: browsers then open it when a link leads there.
def _operation(path: str, method: str, operation: Mapping[str, Any], shown: str) -> str:
    rows = "".join(_inside(operation))
    return (
        f'<details><summary><span class="method">{method}</span>'
        f'<code>{escape(path)}</code><span class="says">{escape(operation["summary"])}</span></summary>'
        f'<div id="{escape(operation["operationId"])}"><h3>Credentials</h3><p>{shown}</p>{rows}</div></details>'
    )


def _credentials(security: Iterable[Mapping[str, Any]], schemes: Mapping[str, Mapping[str, str]]) -> str:
    """The credentials that an operation requires, in the terms of HTTP."""
    names = [name for alternative in security for name in alternative]
    if not names:
        return "None."
    found = []
    for scheme in map(schemes.__getitem__, names):
        if scheme["type"] == "http":
            found.append(f"<code>Authorization: Bearer</code> ({escape(scheme['description'].rstrip('.'))})")
        else:
            found.append(f"{escape(scheme['in'])} <code>{escape(scheme['name'])}</code>")
    return f"{' or '.join(found)}{'' if all(security) else '; none where config.yaml asks for none'}."


def _inside(operation: Mapping[str, Any]) -> Iterator[str]:
    if found := operation.get("parameters"):
        yield "<h3>Parameters</h3>" + _table(
            (f"{parameter['name']} ({parameter['in']})", escape(parameter.get("description", "")))
            for parameter in found
        )
    if body := operation.get("requestBody"):
        yield "<h3>Body</h3>" + _contents(body["content"])
    for status, answer in operation["responses"].items():
        if status == "default":
            continue
        yield f"<h3>{status}</h3>" + (_contents(answer["content"]) if "content" in answer else "<p>No body.</p>")
        if "headers" in answer:
            yield f"<p>With the headers {', '.join(f'<code>{name}</code>' for name in answer['headers'])}.</p>"
    yield '<p class="muted">A failure: <a href="#schema-Error">Error</a>.</p>'


def _contents(contents: Mapping[str, Any]) -> str:
    return _table((kind, _kind(content["schema"])) for kind, content in contents.items())


def _schema(name: str, schema: Mapping[str, Any]) -> str:
    required = schema.get("required", ())
    rows = (
        (
            f"{key}{'' if key in required else ' (optional)'}",
            f'<span class="muted">{_kind(part)}</span> {escape(part.get("description", ""))}',
        )
        for key, part in _properties(schema)
    )
    return (
        f'<details><summary><code>{name}</code><span class="says">{escape(schema.get("description", ""))}</span>'
        f'</summary><div id="schema-{name}">{_table(rows)}</div></details>'
    )


def _properties(schema: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every field by its dotted path, those of nested objects included."""
    for key, part in schema.get("properties", {}).items():
        yield f"{before}{key}", part
        inner = part.get("items", part)
        yield from _properties(inner, f"{before}{key}.")


def _kind(schema: Mapping[str, Any]) -> str:
    """A schema's type in words, with a link where it has a name."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f'<a href="#schema-{name}">{name}</a>'
    if "anyOf" in schema:
        return " or ".join(map(_kind, schema["anyOf"]))
    if "const" in schema:
        return f"<code>{escape(str(schema['const']))}</code>"
    if "enum" in schema:
        return " or ".join(f"<code>{escape(str(value))}</code>" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_kind(schema['items'])}"
    kind = schema.get("type", "any value")
    return escape(" or ".join(kind) if isinstance(kind, list) else kind)


def _table(rows: Iterator[tuple[str, str]]) -> str:
    return (
        "<table>"
        + "".join(f"<tr><th><code>{escape(key)}</code></th><td>{says}</td></tr>" for key, says in rows)
        + "</table>"
    )
