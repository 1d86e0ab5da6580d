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
    """Patience towards clients."""

    header: Wait = Field(default=10.0, description="Until the whole head of a request is there.")
    body: Wait = Field(default=15.0, description="Silence within the body of a request.")
    write: Wait = Field(default=60.0, description="How long a reader may take nothing.")


class Server(Part):
    """Where Sluice listens and how it treats connections."""

    host: Annotated[Name, AfterValidator(bare_host)] = Field(
        default="127.0.0.1", description="Address to listen on, or a name that stands for some."
    )
    port: Whole = Field(default=8080, ge=0, le=65535, description="Port to listen on; 0: a free one.")
    workers: Whole = Field(default=1, ge=1, le=256, description="Processes.")
    max_body: Size = Field(default=20 << 20, description="Largest body of a request.")
    drain: Wait = Field(default=30.0, description="How long running calls may finish after SIGTERM.")
    timeouts: ServerTimeouts = Field(default_factory=ServerTimeouts, description="Patience towards clients.")
    ping: Wait = Field(default=15.0, description="A comment line after so much silence on a stream.")
    cors: Many[Annotated[str, AfterValidator(origin)]] = Field(
        default=(), description="Origins that browsers may call /v1 from; `*`: any."
    )


def _without_empty(keys: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(key for key in keys if key)


class Access(Part):
    """Who may call."""

    keys: Literal["open", "required"] = Field(
        default="open",
        description="open: no client key needed, only on a loopback host; required: Bearer, x-api-key or api-key.",
    )
    metrics: Literal["open", "admin"] = Field(default="open", description="/metrics. admin: needs the admin token.")
    client_keys: Annotated[Many[ShownKey], AfterValidator(_without_empty)] = Field(
        default=(),
        repr=False,
        description="Static client keys, in ASCII; empty ones are ignored. Others are made on /admin.",
    )
    admin_token: ShownKey = Field(
        default="", repr=False, description="Opens /admin. Empty: /admin answers only on loopback, to loopback."
    )


class SimilarCache(Part):
    """How alike two questions must be, for routes that ask for it."""

    threshold: Number = Field(default=0.95, ge=0, le=1, description="Least cosine similarity of the embeddings.")
    embedder: Name = Field(default="local", description="local, or UPSTREAM/MODEL.")


class CacheSettings(Part):
    """Where answers are kept, for routes that ask for it."""

    max_size: Size = Field(default=256 << 20, description="Largest size of all kept answers.")
    store: Annotated[str, AfterValidator(cache_address)] = Field(
        default="memory", repr=False, description="memory: per process; redis://host:6379/0: shared."
    )
    similar: SimilarCache | None = Field(default=None, description="For routes with `cache: {similar: …}`.")


class Log(Part):
    """What is logged, and how."""

    format: Literal["auto", "text", "json"] = Field(
        default="auto", description="auto: readable on a terminal, JSON lines elsewhere."
    )
    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="The least that is logged.")
    content: Flag = Field(default=False, description="Prompts and answers too.")


class Persona(Part):
    """A named preset of one upstream, callable as the model `persona/NAME`."""

    upstream: Name = Field(description="Name of an upstream.")
    model: Name = Field(description="Model name there.")
    system: str | None = Field(default=None, description="System prompt.")
    set: Mapping[Dotted, Json] = Field(default={}, description="Parameters that are always set.")


class VapiHmac(Part):
    """How Vapi signs its webhook calls."""

    header: HeaderName = Field(default="x-signature", description="Header with the signature.")
    timestamp_header: HeaderName | None = Field(
        default="x-timestamp", description="Header with the signed time; null: none."
    )
    algorithm: Literal["sha256", "sha512", "sha1"] = Field(default="sha256", description="Hash function.")
    prefix: str = Field(default="", description="Text in front of the signature: `sha256=`.")


class VapiTool(Part):
    """Where a tool call of the webhook goes."""

    url: Annotated[str, AfterValidator(web_address)] = Field(description="Address that gets the call as JSON.")
    timeout: Wait = Field(default=5.0, description="How long its answer may take.")


class Vapi(Part):
    """The door for Vapi's voice assistants."""

    model: Name | None = Field(default=None, description="Used when Vapi sends none.")
    secret: ShownKey = Field(
        default="", repr=False, description="Guards /vapi/* instead of client keys; empty: the door is closed."
    )
    hmac: VapiHmac | None = Field(default=None, description="Check the webhook's signature.")
    assistant: Mapping[str, Json] | None = Field(
        default=None,
        description="Answers an assistant-request. Its `destination` takes transfers; alone, the call too.",
    )
    tools: Mapping[str, VapiTool] = Field(default={}, description="By name of the tool: where its calls go.")
    apology: str | None = Field(default=None, description="Spoken in place of an error. Left out: errors are errors.")


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


class RoutingTest(Part):
    """Where a model name must lead."""

    model: Name = Field(description="Model name as a client would ask.")
    expect: Annotated[
        Many[Name], Field(min_length=1), BeforeValidator(_listed, json_schema_input_type=str | list[str])
    ] = Field(description="UPSTREAM/MODEL that is asked first, or a list of all in order.")


class Settings(Part):
    """All of config.yaml, variables replaced."""

    server: Server = Field(default_factory=Server, description="Where Sluice listens and how it treats connections.")
    access: Access = Field(default_factory=Access, description="Who may call.")
    store: Annotated[str, AfterValidator(store_address)] = Field(
        default="sqlite:///sluice.db",
        repr=False,
        description="What outlasts a restart: sqlite:///file, or postgresql://….",
    )
    upstreams: Mapping[str, UpstreamSettings] = Field(description="By name: places where calls can be sent.")
    default_upstream: Annotated[str | None, AfterValidator(lambda name: name or None)] = Field(  # empty: left out
        default=None,
        description="Where a model name goes that no route matches. Left out: the only upstream, or nowhere.",
    )
    defaults: Defaults = Field(
        default_factory=Defaults, description="Policies of every route unless it says otherwise."
    )
    routes: Many[RouteSettings] = Field(default=(), description="Rules on the model name; the longest prefix wins.")
    cache: CacheSettings = Field(
        default_factory=CacheSettings, description="Where answers are kept, for routes that ask for it."
    )
    log: Log = Field(default_factory=Log, description="What is logged, and how.")
    personas: Mapping[str, Persona] = Field(default={}, description="By name: presets of one upstream.")
    vapi: Vapi = Field(default_factory=Vapi, description="The door for Vapi's voice assistants.")
    tests: Many[RoutingTest] = Field(default=(), description="Routing tests, run at the start and before every reload.")

    def secrets(self) -> tuple[str, ...]:
        """Every configured secret, to be removed from texts."""
        found = {self.access.admin_token, self.vapi.secret, *self.access.client_keys}
        found.update(passwords(self.store), passwords(self.cache.store))
        for upstream in self.upstreams.values():
            found.update(upstream.secrets())
        return tuple(found - {""})
