"""The OpenAPI 3.1 document of every endpoint, made from one table of operations."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from proxy.doors.openapi_schemas import HEADERS, PARAMETERS, SCHEMAS, Schema, ref
from proxy.doors.table import Access

JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path. `body`, `answer`: names of schemas, or a media type; "": none."""

    method: str
    path: str
    tag: str
    access: Access
    summary: str
    body: str = ""
    answer: str = "AnyObject"
    status: int = 200
    query: str = ""  # parameters of the query, separated by blanks
    routed: bool = False  # goes through the routing table: has Sluice's own headers in and out


def _forwarded(name: str, summary: str) -> Operation:
    return Operation("post", f"/v1/{name}", "Calls", "client", summary, "AnyRequest", "AnyAnswer", routed=True)


OPERATIONS: Final = (
    Operation(
        *("post", "/v1/chat/completions", "Calls", "client", "Chat completion, whole or streamed."),
        *("ChatRequest", "ChatAnswer"),
        routed=True,
    ),
    _forwarded("completions", "Text completion."),
    _forwarded("embeddings", "Embeddings."),
    _forwarded("responses", "OpenAI's Responses API."),
    _forwarded("moderations", "Moderation."),
    _forwarded("images/generations", "Images."),
    _forwarded("audio/speech", "Speech."),
    _forwarded("rerank", "Reranking."),
    Operation(
        "get", "/v1/models", "Models", "client", "Every model that can be called.", answer="Models", query="upstream"
    ),
    Operation("get", "/v1/models/{id}", "Models", "client", "One model; the id may contain slashes.", answer="Model"),
    Operation("post", "/chat", "Pages", "chat", "The chat page's endpoint.", "ShortChat", "ChatAnswer", routed=True),
    Operation("get", "/ui", "Pages", "page", "The chat page.", answer="text/html"),
    Operation(
        *("post", "/vapi/chat/completions", "Vapi", "vapi", "Vapi's custom LLM."),
        *("ChatRequest", "ChatAnswer"),
        routed=True,
    ),
    Operation("post", "/vapi/webhook", "Vapi", "vapi", "Vapi's server messages.", "AnyObject"),
    Operation("get", "/", "Operations", "open", "Name, and paths of the main endpoints."),
    Operation("get", "/livez", "Operations", "open", "Liveness.", answer="Health"),
    Operation("get", "/readyz", "Operations", "open", "Readiness; 503 while draining.", answer="Health"),
    Operation("get", "/health", "Operations", "open", "The same as /readyz.", answer="Health"),
    Operation("get", "/metrics", "Operations", "metrics", "Prometheus' text format.", answer="text/plain"),
    Operation("get", "/openapi.json", "Operations", "open", "This document."),
    Operation("get", "/docs", "Operations", "open", "This document as a page.", answer="text/html"),
    Operation("get", "/admin", "Admin", "desk", "The admin page.", answer="text/html"),
    Operation("get", "/admin/login", "Admin", "page", "The login form.", answer="text/html"),
    Operation(
        *("post", "/admin/login", "Admin", "page", "Exchanges the form's token for a cookie, and redirects to /admin."),
        *("application/x-www-form-urlencoded", ""),
        status=303,
    ),
    Operation("post", "/admin/logout", "Admin", "page", "Ends the session.", answer="", status=303),
    Operation("get", "/admin/overview", "Admin", "admin", "All data of the admin page."),
    Operation(
        "get", "/admin/provider-settings", "Admin", "admin", "Upstreams and the default.", answer="ProviderSettings"
    ),
    Operation(
        *(
            "put",
            "/admin/provider-settings",
            "Admin",
            "admin",
            "Switches the default upstream at once, and persistently.",
        ),
        *("DefaultUpstream", "ProviderSettings"),
    ),
    Operation("get", "/admin/models", "Admin", "admin", "Like /v1/models.", answer="Models", query="upstream"),
    Operation("get", "/admin/personas", "Admin", "admin", "Lists personas.", answer="Personas", query="upstream"),
    Operation("post", "/admin/personas", "Admin", "admin", "Creates or changes a persona.", "Persona", "Persona", 201),
    Operation("delete", "/admin/personas/{name}", "Admin", "admin", "Deletes a persona.", answer="", status=204),
    Operation("get", "/admin/keys", "Admin", "admin", "Client keys, with their usage this month.", answer="Keys"),
    Operation(
        *("post", "/admin/keys", "Admin", "admin", "Creates a key; only this answer contains it."),
        *("NewKey", "MadeKey", 201),
    ),
    Operation(
        *("patch", "/admin/keys/{name}", "Admin", "admin", "Changes limits and expiry; null removes one."),
        *("KeyLimits", "Key"),
    ),
    Operation("delete", "/admin/keys/{name}", "Admin", "admin", "Revokes a key.", answer="", status=204),
    Operation(
        *(
            "get",
            "/admin/usage",
            "Admin",
            "admin",
            "Usage of calls by key, day, upstream or model, or several of them.",
        ),
        answer="UsageSums",
        query="from to by",
    ),
    Operation(
        *("post", "/admin/explain", "Admin", "admin", "What would happen to a call; sends nothing."),
        *("ChatRequest", "Explanation"),
    ),
    Operation("post", "/admin/reload", "Admin", "admin", "Reloads config.yaml."),
    Operation("get", "/admin/cache", "Admin", "admin", "Cached answers: entries, sizes and hits."),
    Operation("delete", "/admin/cache", "Admin", "admin", "Deletes cached answers.", query="route model"),
    Operation("get", "/admin/calls", "Admin", "admin", "Recent calls, without prompt text.", answer="Calls"),
)

_WHO: Final[Mapping[Access, list[dict[str, list[str]]]]] = {
    "open": [{}],
    "page": [{}],
    "client": [{"clientKey": []}, {"clientKeyHeader": []}, {"apiKeyHeader": []}, {}],
    "chat": [{"clientKey": []}, {"clientKeyHeader": []}, {"apiKeyHeader": []}, {}],
    "metrics": [{}, {"adminToken": []}],
    "desk": [{"adminToken": []}, {"adminCookie": []}, {}],
    "admin": [{"adminToken": []}, {"adminCookie": []}, {}],
    "vapi": [{"vapiSecret": []}, {"vapiSecretHeader": []}],
}
"""The security requirements of each access class; `{}`: none, where config.yaml allows it."""

_QUERIES: Final = {
    "from": "First day, UTC, such as 2026-11-01. Default: the first of that month.",
    "to": "Last day, UTC. Default: today.",
    "by": "key (default), day, upstream, model, or several separated by commas.",
}
"""Descriptions of query parameters; parameters that merely filter need none."""

_SCHEMES: Final = {
    "clientKey": {"type": "http", "scheme": "bearer", "description": "A key of access.client_keys, or of /admin/keys."},
    "clientKeyHeader": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    "apiKeyHeader": {"type": "apiKey", "in": "header", "name": "api-key"},
    "adminToken": {"type": "http", "scheme": "bearer", "description": "access.admin_token."},
    "adminCookie": {
        "type": "apiKey",
        "in": "cookie",
        "name": "sluice_admin",
        "description": "Set by the login form. Eight digits derived from the admin token are appended to the name, "
        "and `_https` if the browser uses https.",
    },
    "vapiSecret": {"type": "http", "scheme": "bearer", "description": "vapi.secret."},
    "vapiSecretHeader": {"type": "apiKey", "in": "header", "name": "x-vapi-secret"},
}


def document(version: str) -> dict[str, Any]:
    """The document, as JSON data; `version` of Sluice."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _described(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Sluice",
            "version": version,
            "description": "An OpenAI-compatible reverse proxy. Every path under /v1 also works without /v1, and with "
            "a trailing or doubled slash. Every failure has the form of the schema Error.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": _SCHEMES,
            "headers": {name: {"description": says, "schema": {"type": "string"}} for name, says in HEADERS.items()},
            "responses": {"Failure": {"description": "Who caused the failure, and why.", "content": _content("Error")}},
        },
    }


def _described(operation: Operation) -> dict[str, Any]:
    found: dict[str, Any] = {
        "tags": [operation.tag],
        "summary": operation.summary,
        "operationId": _id(operation),
        "security": _WHO[operation.access],
    }
    if parameters := _parameters(operation):
        found["parameters"] = parameters
    if operation.body:
        content = _content(operation.body)
        if operation.path == "/chat":
            content = {JSON: {"schema": {"anyOf": [ref("ShortChat"), ref("ChatRequest")]}}}
        found["requestBody"] = {"required": True, "content": content}
    answer: dict[str, Any] = {"description": _says(operation)}
    if operation.answer:
        answer["content"] = _content(operation.answer)
    if operation.routed:
        answer["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in HEADERS}
        if operation.answer == "ChatAnswer" or operation.path in ("/v1/completions", "/v1/responses"):
            answer["content"]["text/event-stream"] = {"schema": {"type": "string"}}
    found["responses"] = {str(operation.status): answer, "default": {"$ref": "#/components/responses/Failure"}}
    return found


def _says(operation: Operation) -> str:
    return {201: "Created.", 204: "Deleted.", 303: "Redirect to the page."}.get(operation.status, "The answer.")


def _id(operation: Operation) -> str:
    words = [word for word in operation.path.replace("{", "").replace("}", "").split("/") if word not in ("", "v1")]
    return "_".join([operation.method, *words]).replace("-", "_").replace(".", "_")


def _content(name: str) -> dict[str, Any]:
    if "/" in name:
        return {name: {"schema": {"type": "object" if "form" in name else "string"}}}
    return {JSON: {"schema": ref(name)}}


def _parameters(operation: Operation) -> list[Schema]:
    said: Schema = {"schema": {"type": "string"}}
    found: list[Schema] = [
        {"name": part.strip("{}"), "in": "path", "required": True, **said}
        for part in operation.path.split("/")
        if part.startswith("{")
    ]
    found += [
        {"name": name, "in": "query", "description": _QUERIES.get(name, f"Limits the answer to this {name}."), **said}
        for name in operation.query.split()
    ]
    if operation.routed:
        found += [{"name": name, "in": "header", "description": says, **said} for name, says in PARAMETERS.items()]
    return found
