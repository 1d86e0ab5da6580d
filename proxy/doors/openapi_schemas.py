"""The shapes of bodies and headers that the OpenAPI document refers to."""

from typing import Any, Final

from proxy.errors import STATUS

Schema = dict[str, Any]


def text(says: str = "", **more: Any) -> Schema:
    """A string."""
    return {"type": "string", **({"description": says} if says else {}), **more}


def maybe(kind: str, says: str = "") -> Schema:
    """A value of this type, or null where it is unknown."""
    return {"type": [kind, "null"], **({"description": says} if says else {})}


def ref(name: str) -> Schema:
    """A schema of this document."""
    return {"$ref": f"#/components/schemas/{name}"}


def listed(item: Schema) -> Schema:
    """A list."""
    return {"type": "array", "items": item}


def record(required: str = "", says: str = "", **properties: Schema) -> Schema:
    """An object; `required` names fields, separated by blanks."""
    found: Schema = {"type": "object", "properties": properties}
    if required:
        found["required"] = required.split()
    return found | ({"description": says} if says else {})


MODEL_FIELD: Final = text("Decides the route.", examples=["small", "openrouter/openai/gpt-4o"])
STREAM_FIELD: Final = {"type": "boolean", "default": False, "description": "Answer as server-sent events."}
LOOSE: Final = {"additionalProperties": True}  # fields not named here pass as they are

KEY_LIMITS: Final = {
    "expires": maybe("string", "ISO 8601; null: never."),
    "requests_per_minute": maybe("integer"),
    "tokens_per_minute": maybe("integer", "Input and output together, as upstreams counted them."),
    "monthly_budget": maybe("number", "USD in a calendar month, UTC."),
}
USED: Final = {
    "calls": {"type": "integer", "description": "All that ended, failed ones and those from the cache included."},
    "failed": {"type": "integer"},
    "input": {"type": "integer", "description": "Tokens, as `output`, `cached` and `reasoning`."},
    "output": {"type": "integer"},
    "cached": {"type": "integer"},
    "reasoning": {"type": "integer"},
    "cost": {"type": "number", "description": "USD, as far as it is known."},
    "unpriced": {"type": "integer", "description": "Calls of which it is not known."},
}
KEY: Final = {
    "name": text(),
    "hint": text("The end of the key."),
    "created": maybe("string"),
    "live": {"type": "boolean"},
    "reason": maybe("string", "Why it lets no call in."),
    "source": {"enum": ["config", "store"]},
}

SCHEMAS: Final[dict[str, Schema]] = {
    "Error": record(
        "error",
        error=record(
            "message type param code",
            message=text(),
            type=text(),
            param=maybe("string", "The field at fault."),
            code=maybe(
                "string",
                "Whose fault it was: client_*, policy_*, upstream_*, proxy_*, or one of OpenAI's own words: "
                + ", ".join(f"{code} ({status})" for code, status in STATUS.items())
                + ". A client's own fault that the upstream reports keeps the upstream's code.",
            ),
        ),
    ),
    "Message": record("role", role=text(), content={"description": "Text, or parts as OpenAI has them."}) | LOOSE,
    "ChatRequest": record(
        "model messages",
        "OpenAI's chat completion. Every other field passes as it is.",
        model=MODEL_FIELD,
        messages=listed(ref("Message")),
        stream=STREAM_FIELD,
    )
    | LOOSE,
    "ChatAnswer": record(
        "",
        "OpenAI's chat completion as the upstream gave it.",
        id=text(),
        object=text(),
        created={"type": "integer"},
        model=text("The upstream's name for the model, unless the route says response.model: asked."),
        choices=listed({"type": "object"}),
        usage={"type": ["object", "null"]},
    )
    | LOOSE,
    "AnyRequest": record("model", "OpenAI's body for this endpoint.", model=MODEL_FIELD) | LOOSE,
    "AnyAnswer": {"type": "object", "description": "As the upstream gave it."},
    "ShortChat": record(
        "message",
        "The short form: the message follows the conversation, the persona goes before the model.",
        message=text(),
        model=text(),
        persona=text("Name of a persona, without `persona/`."),
        conversation=listed(ref("Message")),
        stream=STREAM_FIELD,
    )
    | LOOSE,
    "Model": record(
        "id object created owned_by",
        id=text("`upstream/model`, an alias, or `persona/NAME`."),
        object={"const": "model"},
        created={"type": "integer"},
        owned_by=text(),
        context_length=maybe("integer", "Tokens of prompt and answer together."),
        max_output_tokens=maybe("integer"),
        upstream=maybe("string"),
        chat={"type": "boolean", "description": "Answers chats, as far as its upstream or its name tells."},
    ),
    "Models": record("object data", object={"const": "list"}, data=listed(ref("Model"))),
    "Health": record(
        "status upstreams",
        status=text(examples=["ready", "draining", "alive"]),
        upstreams=listed(
            record(
                "name provider live healthy reason",
                name=text(),
                provider=text(),
                live={"type": "boolean", "description": "Switched on."},
                healthy={"type": "boolean"},
                reason=maybe("string"),
            )
        ),
    ),
    "ProviderSettings": record(
        "default_upstream upstreams",
        default_upstream=maybe("string"),
        upstreams=listed(
            record(
                "name provider live reason models",
                name=text(),
                provider=text(),
                live={"type": "boolean"},
                reason=maybe("string", "Why it is off."),
                models={"type": "integer"},
            )
        ),
    ),
    "DefaultUpstream": record(
        "default_upstream", default_upstream=maybe("string", "A name, or null for what config.yaml says.")
    ),
    "Persona": record(
        "name upstream model",
        name=text(),
        upstream=text(),
        model=text("Model name at that upstream."),
        system=maybe("string"),
        set={"type": "object", "description": "Dotted paths and the values they always get."},
        source={"enum": ["config", "store"], "readOnly": True},
    ),
    "Personas": record("data", data=listed(ref("Persona"))),
    "KeyLimits": {"type": "object", "properties": KEY_LIMITS},
    "NewKey": record("name") | {"properties": {"name": text()} | KEY_LIMITS},
    "Used": {"type": "object", "properties": USED},
    "Key": record("name hint live source")
    | {"properties": KEY | KEY_LIMITS | {"used": {"anyOf": [ref("Used"), {"type": "null"}]}}},
    "MadeKey": record("key name hint live source")
    | {"properties": {"key": text("The key itself; nothing tells it again.")} | KEY | KEY_LIMITS},
    "Keys": record("data", data=listed(ref("Key"))),
    "UsageSum": {
        "type": "object",
        "description": "With the columns of `by`; null: no upstream was asked.",
        "properties": {name: maybe("string") for name in ("key", "day", "upstream", "model")} | USED,
    },
    "UsageSums": record("from to data")
    | {"properties": {"from": text(), "to": text(), "data": listed(ref("UsageSum"))}},
    "Explanation": record(
        "route beaten targets cache",
        route=text(),
        beaten=listed(text()),
        targets=listed(
            record(
                "upstream model usable reason body changes limits",
                upstream=text(),
                model=text(),
                usable={"type": "boolean"},
                reason=maybe("string"),
                body={"description": "The body as it would be sent."},
                changes=listed(text()),
                limits={"type": ["object", "null"]},
            )
        ),
        cache={"type": ["object", "null"]},
    ),
    "Calls": record("data", data=listed({"type": "object"}), says="Newest first."),
    "AnyObject": {"type": "object"},
}

HEADERS: Final = {
    "x-request-id": "The client's own id where it is sane, else a new one.",
    "x-sluice-route": "The route that took the call.",
    "x-sluice-upstream": "The upstream that answered.",
    "x-sluice-model": "The model's name there.",
    "x-sluice-attempts": "Every attempt and how it ended: `openrouter:429,ollama:200`.",
    "x-sluice-cache": "hit, similar;score=0.97, shared, miss or off.",
    "x-sluice-changes": "What rewriting did: `set temperature, remove metadata`.",
    "server-timing": "Milliseconds inside Sluice, and of waiting upstream: `proxy;dur=0.31, upstream;dur=412.0`.",
    "x-upstream-request-id": "The upstream's own request id.",
}
"""On every answer that a route was chosen for."""

PARAMETERS: Final = {
    "x-request-id": "Kept where it is sane.",
    "x-sluice-cache": "off, refresh or only.",
    "x-sluice-timeout": "A duration such as 10s: shortens the call's time, never lengthens it.",
    "x-sluice-session": "Keeps a session on one target of a weighted route.",
}
"""Headers that a call may carry."""
