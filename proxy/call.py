"""One request for an answer, in the form that every door makes and every stage reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Final, Literal, Protocol

from proxy.errors import SluiceError
from proxy.usage import NO_USAGE, Usage

Headers = list[tuple[bytes, bytes]]
"""Header lines as they travel: lower-case names, raw values, order kept."""

Door = Literal["openai", "chat", "vapi", "admin"]
CacheMode = Literal["on", "off", "refresh", "only"]

CHAT_LIKE: Final = ("chat/completions", "completions")
"""Endpoints whose answers have choices, and whose streams tell their usage where that is asked for."""
TargetState = tuple[str, str, tuple[str, ...], Usage]
"""What a trace tells of one target: upstream, model, changes, usage."""


@dataclass(slots=True)
class Try:
    """One attempt as OpenTelemetry gets to see it: who was asked, from when to when, and what came of it."""

    upstream: str
    model: str  # its name there
    provider: str  # the upstream's dialect
    began: float = field(default_factory=perf_counter)
    ended: float = 0.0  # perf_counter; 0: under way
    status: int = 0  # that it answered with; 0: it did not
    outcome: str = ""  # "ok", the error's code, or "cancelled"

    def end(self, outcome: str) -> None:
        """It ended. Only the first end counts."""
        if not self.outcome:
            self.ended, self.outcome = perf_counter(), outcome


class Trace:
    """What was chosen and done for a call, as it happens: read off by headers, metrics, log and admin page.

    Defaults stand on the class, so that making one costs next to nothing.
    """

    route: str = ""
    upstream: str = ""  # that answered, or was asked last
    model: str = ""  # its name there
    changes: tuple[str, ...] = ()  # what rewriting did
    cache: str = "off"
    waited: float = 0.0  # seconds spent waiting for upstreams
    overhead: float | None = None  # seconds inside Sluice until the answer's head left
    content_at: float | None = None  # perf_counter of the first token
    last_at: float | None = None  # and of the last
    malformed: int = 0  # events of the upstream that were no JSON, and were dropped
    counted: bool = False  # among the open streams
    status: int = 0
    failure: SluiceError | None = None
    kept: list[bytes] | None = None  # the prompt, then the answer, where `log.content` wants them
    usage: Usage = NO_USAGE  # exchanged whole, never changed in place
    span: Any = None  # OpenTelemetry's, where it is on
    tries: list[Try] | None = None  # the attempts, where somebody wants to know their times
    quota: Sequence[tuple[bytes, bytes]] = ()  # what its key may still do, as header lines

    def __init__(self) -> None:
        self.attempts: list[str] = []  # "openrouter:429"

    @property
    def target_state(self) -> TargetState:
        """What it tells of the target that answered, or was asked last."""
        return self.upstream, self.model, self.changes, self.usage

    @target_state.setter
    def target_state(self, state: TargetState) -> None:
        self.upstream, self.model, self.changes, self.usage = state


class Allowance(Protocol):
    """What a client key that operators made may do."""

    key: str  # its name

    def enter(self, call: "Call") -> None:
        """Lets a call in, and notes what its client is told. Raises policy_rate_limited."""
        ...

    def used(self, tokens: int) -> None:
        """A call took so many tokens."""
        ...


@dataclass(slots=True)
class Call:
    """A call on its way in. `body` is OpenAI-shaped JSON as it came; `fields` is the same, parsed (read only)."""

    id: str  # x-request-id
    door: Door
    endpoint: str  # the path behind /v1/: "chat/completions", "embeddings", …
    model: str  # as asked
    body: bytes
    fields: Mapping[str, Any]
    headers: Headers = field(default_factory=list, repr=False)  # the client's, all of them
    passed: bytes | None = None  # the proxies it has come through (cdn-loop, RFC 8586)
    own: Sequence[tuple[bytes, bytes]] = field(default=(), repr=False)  # those of the headers that are for Sluice
    credential: str | None = field(default=None, repr=False)  # the client key it showed
    content_type: bytes | None = None
    tenant: str | None = None  # set by admission: whose call it is
    allowance: Allowance | None = None  # and what that key may do, where operators made it
    stream: bool = False
    session: str | None = None  # keeps a session on one target of a weighted route
    cache: CacheMode = "on"
    timeout: float | None = None  # seconds, from x-sluice-timeout
    began: float = field(default_factory=perf_counter)
    model_at: tuple[int, int] = (0, 0)  # span of the model's value in `body`, quotes included
    trace: Trace = field(default_factory=Trace)

    @property
    def left(self) -> float | None:
        """Seconds left of what its client allows it (x-sluice-timeout); None: it set no bound."""
        return None if self.timeout is None else self.began + self.timeout - perf_counter()

    @property
    def chat(self) -> bool:
        """Whether this is a chat completion: the one endpoint that is translated between dialects."""
        return self.endpoint == "chat/completions"

    @property
    def wants_usage(self) -> bool:
        """Whether the client asked for the usage event of a stream."""
        options = self.fields.get("stream_options")
        return isinstance(options, dict) and options.get("include_usage") is True
