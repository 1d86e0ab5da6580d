"""One request for an answer, in the form that every door makes and every stage reads."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Literal

Headers = list[tuple[bytes, bytes]]
"""Header lines as they travel: lower-case names, raw values, order kept."""

Door = Literal["openai", "chat", "vapi", "admin"]
CacheMode = Literal["on", "off", "refresh", "only"]


@dataclass(slots=True)
class Call:
    """A call on its way in. `body` is OpenAI-shaped JSON as it came; `fields` is the same, parsed (read only)."""

    id: str  # x-request-id
    door: Door
    endpoint: str  # the path behind /v1/: "chat/completions", "embeddings", …
    model: str  # as asked
    body: bytes
    fields: Mapping[str, Any]
    headers: Headers = field(default_factory=list)  # the client's, all of them
    credential: str | None = None  # the client key it showed
    tenant: str = "open"  # set by admission: whose call it is
    stream: bool = False
    session: str | None = None  # keeps a session on one target of a weighted route
    cache: CacheMode = "on"
    timeout: float | None = None  # seconds, from x-sluice-timeout
    began: float = field(default_factory=perf_counter)
    route: str = ""  # set by the gateway: the route's name

    @property
    def chat(self) -> bool:
        """Whether this is a chat completion: the one endpoint that is translated between dialects."""
        return self.endpoint == "chat/completions"

    @property
    def wants_usage(self) -> bool:
        """Whether the client asked for the usage event of a stream."""
        options = self.fields.get("stream_options")
        return isinstance(options, dict) and options.get("include_usage") is True
