"""The schema of config.yaml: every key with its type, default and description."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from proxy.settings.addresses import bare_host, cache_address, origin, passwords, store_address, web_address
from proxy.settings.policies import Defaults
from proxy.settings.routes import RouteSettings
from proxy.settings.upstreams import UpstreamSettings
from proxy.settings.values import Dotted, Flag, HeaderName, Json, Many, Name, Number, Part, ShownKey, Size, Wait, Whole


class ServerTimeouts(Part):
    """Time limits for clients, in seconds."""

    header: Wait = Field(default=10.0, description="Time to receive the whole head of a request.")
    body: Wait = Field(default=15.0, description="Longest silence within the body of a request.")
    write: Wait = Field(default=60.0, description="How long a client may read nothing.")


class Server(Part):
    """Where Sluice listens, and limits for connections."""

    host: Annotated[Name, AfterValidator(bare_host)] = Field(
        default="127.0.0.1", description="Address to listen on, or a host name."
    )
    port: Whole = Field(default=8080, ge=0, le=65535, description="Port to listen on; 0: any free port.")
    workers: Whole = Field(default=1, ge=1, le=256, description="Number of worker processes.")
    max_body: Size = Field(default=20 << 20, description="Largest request body.")
    drain: Wait = Field(default=30.0, description="Time for running calls to finish after SIGTERM.")
    timeouts: ServerTimeouts = Field(default_factory=ServerTimeouts, description="Time limits for clients.")
    ping: Wait = Field(default=15.0, description="Silence on a stream after which a comment line is sent.")
    cors: Many[Annotated[str, AfterValidator(origin)]] = Field(
        default=(), description="Origins from which browsers may call /v1; `*`: any."
    )


def _without_empty(keys: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(key for key in keys if key)


class Access(Part):
    """Authentication."""

    keys: Literal["open", "required"] = Field(
        default="open",
        description="open: no client key needed, allowed on loopback hosts only; required: as Bearer token, "
        "x-api-key or api-key.",
    )
    metrics: Literal["open", "admin"] = Field(
        default="open", description="Access to /metrics. open: anyone; admin: with the admin token."
    )
    client_keys: Annotated[Many[ShownKey], AfterValidator(_without_empty)] = Field(
        default=(),
        repr=False,
        description="Static client keys (ASCII); empty ones are ignored. More can be created on /admin.",
    )
    admin_token: ShownKey = Field(
        default="",
        repr=False,
        description="Token for /admin. If empty, /admin answers only loopback clients while listening on loopback.",
    )


class SimilarCache(Part):
    """How similar two questions must be, for routes with `cache.similar`."""

    threshold: Number = Field(default=0.95, ge=0, le=1, description="Minimum cosine similarity of the embeddings.")
    embedder: Name = Field(default="local", description="Embedding model: local, or UPSTREAM/MODEL.")


class CacheSettings(Part):
    """Cache of answers, for routes that enable it."""

    max_size: Size = Field(default=256 << 20, description="Largest total size of cached answers.")
    store: Annotated[str, AfterValidator(cache_address)] = Field(
        default="memory",
        repr=False,
        description="Where answers are stored. memory: per process; redis://host:6379/0: shared.",
    )
    similar: SimilarCache | None = Field(default=None, description="For routes with `cache: {similar: …}`.")


class Log(Part):
    """Logging."""

    format: Literal["auto", "text", "json"] = Field(
        default="auto", description="auto: readable on a terminal, JSON lines elsewhere."
    )
    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Minimum level of log messages."
    )
    content: Flag = Field(default=False, description="Also log prompts and answers.")


class Persona(Part):
    """A named preset of one upstream, callable as the model `persona/NAME`."""

    upstream: Name = Field(description="Name of an upstream.")
    model: Name = Field(description="Model name at the upstream.")
    system: str | None = Field(default=None, description="System prompt.")
    set: Mapping[Dotted, Json] = Field(default={}, description="Parameters that are always set.")


class VapiHmac(Part):
    """How Vapi signs its webhook calls."""

    header: HeaderName = Field(default="x-signature", description="Header with the signature.")
    timestamp_header: HeaderName | None = Field(
        default="x-timestamp", description="Header with the signed timestamp; null: none."
    )
    algorithm: Literal["sha256", "sha512", "sha1"] = Field(default="sha256", description="Hash function.")
    prefix: str = Field(default="", description="Prefix of the signature, such as `sha256=`.")


class VapiTool(Part):
    """Where a tool call of the webhook is sent."""

    url: Annotated[str, AfterValidator(web_address)] = Field(description="URL to which the call is posted as JSON.")
    timeout: Wait = Field(default=5.0, description="Time limit for the answer.")


class Vapi(Part):
    """Endpoints for Vapi's voice assistants."""

    model: Name | None = Field(default=None, description="Model to use if Vapi sends none.")
    secret: ShownKey = Field(
        default="",
        repr=False,
        description="Secret for /vapi/*, instead of client keys. If empty, these paths answer 404.",
    )
    hmac: VapiHmac | None = Field(default=None, description="Verification of the webhook's HMAC signature.")
    assistant: Mapping[str, Json] | None = Field(
        default=None,
        description="Answer to an assistant-request. Its `destination` is also the answer to a transfer request; "
        "alone, calls are transferred there too.",
    )
    tools: Mapping[str, VapiTool] = Field(default={}, description="By tool name: where its calls are sent.")
    apology: str | None = Field(
        default=None, description="Text to speak instead of an error. If unset, errors are returned as such."
    )


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


class RoutingTest(Part):
    """The targets to which a model name must resolve."""

    model: Name = Field(description="Model name as a client would send it.")
    expect: Annotated[
        Many[Name], Field(min_length=1), BeforeValidator(_listed, json_schema_input_type=str | list[str])
    ] = Field(description="UPSTREAM/MODEL of the first target, or a list of all targets in order.")


class Settings(Part):
    """All of config.yaml, variables replaced."""

    server: Server = Field(default_factory=Server, description="Where Sluice listens, and limits for connections.")
    access: Access = Field(default_factory=Access, description="Authentication.")
    store: Annotated[str, AfterValidator(store_address)] = Field(
        default="sqlite:///sluice.db",
        repr=False,
        description="Database of settings, personas, keys and usage: sqlite:///file, or postgresql://….",
    )
    upstreams: Mapping[str, UpstreamSettings] = Field(description="Upstreams by name: where calls can be sent.")
    default_upstream: Annotated[str | None, AfterValidator(lambda name: name or None)] = Field(  # empty: left out
        default=None,
        description="Upstream for model names that no route matches. If unset, the only upstream; with several, 404.",
    )
    defaults: Defaults = Field(
        default_factory=Defaults, description="Policies of all routes, unless a route overrides them."
    )
    routes: Many[RouteSettings] = Field(
        default=(), description="Rules that choose upstreams by model name; the longest prefix wins."
    )
    cache: CacheSettings = Field(
        default_factory=CacheSettings, description="Cache of answers, for routes that enable it."
    )
    log: Log = Field(default_factory=Log, description="Logging.")
    personas: Mapping[str, Persona] = Field(
        default={}, description="Personas by name: presets that are callable as the model `persona/NAME`."
    )
    vapi: Vapi = Field(default_factory=Vapi, description="Endpoints for Vapi's voice assistants.")
    tests: Many[RoutingTest] = Field(default=(), description="Routing tests, run at startup and before every reload.")

    def secrets(self) -> tuple[str, ...]:
        """Every configured secret, to be removed from texts."""
        found = {self.access.admin_token, self.vapi.secret, *self.access.client_keys}
        found.update(passwords(self.store), passwords(self.cache.store))
        for upstream in self.upstreams.values():
            found.update(upstream.secrets())
        return tuple(found - {""})
