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
"""Endpoints whose answers have `choices`, and whose streams report usage where `stream_options` asks for it."""
STREAMED: Final = (*CHAT_LIKE, "responses")
"""Endpoints that answer whole or in events: where an upstream does the other of what was asked, it is converted."""
TargetState = tuple[str, str, tuple[str, ...], Usage]
"""The part of a trace that belongs to one target: upstream, model, changes, usage. Saved while two targets race."""


@dataclass(slots=True)
class Try:
    """One attempt as OpenTelemetry records it: which target, start, end and outcome."""

    upstream: str
    model: str  # its name at the upstream
    provider: str  # the upstream's dialect
    began: float = field(default_factory=perf_counter)
    ended: float = 0.0  # perf_counter; 0: under way
    status: int = 0  # HTTP status of the answer; 0: no answer
    outcome: str = ""  # "ok", the error's code, or "cancelled"

    def end(self, outcome: str) -> None:
        """Records the end. Only the first call counts."""
        if not self.outcome:
            self.ended, self.outcome = perf_counter(), outcome


class Trace:
    """What was chosen and done for a call so far; headers, metrics, log and admin page read it.

    Defaults are class attributes, so that making an instance costs next to nothing.
    """

    route: str = ""
    upstream: str = ""  # the one that answered, or was asked last
    model: str = ""  # its name at the upstream
    attempts: tuple[str, ...] = ()  # "openrouter:429"
    changes: tuple[str, ...] = ()  # what rewriting changed, as x-sluice-changes lists it
    cache: str = "off"
    waited: float = 0.0  # seconds spent waiting for upstreams
    overhead: float | None = None  # seconds inside Sluice until the answer's head left
    content_at: float | None = None  # perf_counter at the first token
    last_at: float | None = None  # and at the last
    malformed: int = 0  # dropped events of the upstream: not JSON
    counted: bool = False  # counted in sluice_streams_open
    status: int = 0
    head: int = 0  # the status that the client got, once the head of a stream has left; a failure cannot change it
    failure: SluiceError | None = None
    kept: list[bytes] | None = None  # the prompt, then the answer, where `log.content` wants them
    usage: Usage = NO_USAGE  # replaced as a whole, never changed in place
    span: Any = None  # an OpenTelemetry span, where tracing is on
    tries: list[Try] | None = None  # one per attempt, where tracing is on
    quota: Sequence[tuple[bytes, bytes]] = ()  # rate-limit headers of the client key

    @property
    def target_state(self) -> TargetState:
        """The part that belongs to the target that answered, or was asked last."""
        return self.upstream, self.model, self.changes, self.usage

    @target_state.setter
    def target_state(self, state: TargetState) -> None:
        self.upstream, self.model, self.changes, self.usage = state


class Allowance(Protocol):
    """The limits of a client key that operators made."""

    key: str  # its name

    def enter(self, call: "Call") -> None:
        """Admits a call and keeps the rate-limit headers for its client. Raises policy_rate_limited."""
        ...

    def used(self, tokens: int) -> None:
        """Counts the tokens that a call took."""
        ...


@dataclass(slots=True)
class Call:
    """A call on its way in. `body` is OpenAI-shaped JSON as received; `fields` is the same, parsed (read only)."""

    id: str  # x-request-id
    door: Door
    endpoint: str  # the path behind /v1/: "chat/completions", "embeddings", …
    model: str  # as asked
    body: bytes
    fields: Mapping[str, Any]
    headers: Headers = field(default_factory=list, repr=False)  # the client's, all of them
    passed: bytes | None = None  # proxies on its way so far (cdn-loop, RFC 8586)
    own: Sequence[tuple[bytes, bytes]] = field(default=(), repr=False)  # the headers meant for Sluice itself
    credential: str | None = field(default=None, repr=False)  # the client key that it sent
    content_type: bytes | None = None
    tenant: str | None = None  # set by admission: the owner, for cache and queues
    allowance: Allowance | None = None  # limits of the key, where operators made it
    stream: bool = False
    session: str | None = None  # keeps a session on one target of a weighted route
    cache: CacheMode = "on"
    timeout: float | None = None  # seconds, from x-sluice-timeout
    began: float = field(default_factory=perf_counter)
    model_at: tuple[int, int] = (0, 0)  # span of the model's value in `body`, quotes included
    trace: Trace = field(default_factory=Trace)

    @property
    def left(self) -> float | None:
        """Seconds left of the client's own time limit (x-sluice-timeout); None: it set no limit."""
        return None if self.timeout is None else self.began + self.timeout - perf_counter()

    @property
    def chat(self) -> bool:
        """Whether this is a chat completion: the only endpoint that is translated between dialects."""
        return self.endpoint == "chat/completions"

    @property
    def wants_usage(self) -> bool:
        """Whether the client asked for the usage event of a stream."""
        options = self.fields.get("stream_options")
        return isinstance(options, dict) and options.get("include_usage") is True
