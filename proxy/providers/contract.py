"""The interface of providers: pure translation between OpenAI's dialect and an upstream's, without any I/O."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from proxy.call import Headers
from proxy.errors import SluiceError
from proxy.providers.failures import error_in_event
from proxy.sse import EventCutter


@dataclass(frozen=True, slots=True)
class Model:
    """One entry of an upstream's catalogue. None: the upstream does not say."""

    id: str
    context: int | None = None  # tokens that prompt and answer may have together
    output: int | None = None  # tokens that an answer may have
    inputs: tuple[str, ...] | None = None  # modalities: "text", "image", "audio", "file"
    prices: Mapping[str, float] | None = None  # USD per million tokens: input, output, cached
    created: int | None = None  # Unix seconds
    owner: str | None = None
    tools: bool | None = None  # can call tools
    chat: bool | None = None  # answers chats
    extra: Mapping[str, Any] | None = None  # what only this provider's own code reads


@dataclass(frozen=True, slots=True)
class Target:
    """Where one attempt goes: upstream, its address, its key and the model name there, inseparable.

    Made by the router alone, so one provider's key can never meet another's address.
    """

    upstream: str
    model: str
    provider: "Provider"
    base: str  # "https://host[:port]/path", without a trailing slash
    key: str = field(repr=False)
    headers: tuple[tuple[bytes, bytes], ...] = field(default=(), repr=False)  # of the config, sent with every request
    via: str = field(default="", repr=False)  # forward proxy URL, "h2", or "": our own HTTP/1.1 connection
    weight: int = 1
    prefill: bool | frozenset[str] = False  # can go on from an assistant message: all models, or these
    options: Mapping[str, Any] = field(default_factory=dict)  # provider-specific keys of the upstream
    off: str = ""  # why it cannot be called: "OPENROUTER_API_KEY is not set"; "": it can

    @property
    def prefills(self) -> bool:
        """Whether this model can go on from an assistant message."""
        return self.prefill if isinstance(self.prefill, bool) else self.model in self.prefill


@dataclass(slots=True)  # not frozen: that would cost half a microsecond per call
class Order:
    """One call as one target is to get it: rewritten, with the target's model name in place."""

    endpoint: str  # "chat/completions", "embeddings", …
    body: bytes  # OpenAI-shaped JSON
    stream: bool  # whether the upstream is to be asked for a stream
    headers: Headers  # the client's that may pass
    target: Target
    limits: Model | None = None  # what is known of the model: config over catalogue
    need: int = 0  # tokens that prompt and answer are estimated to take together
    fields: Mapping[str, Any] | None = None  # `body`, parsed, if at hand; model and stream are the client's

    def with_body(self, body: bytes) -> "Order":
        """The same with another body."""
        return replace(self, body=body, fields=None)


@dataclass(slots=True)  # not frozen: that would cost half a microsecond per call
class Request:
    """One HTTP request to the target's address."""

    path: str  # appended to the target's base: "/chat/completions"; encoded, may carry a query
    body: bytes = b""
    method: str = "POST"
    headers: Headers = field(default_factory=list)  # complete, credentials included; no host, no framing
    changes: tuple[str, ...] = ()  # what the translation had to do: "drop logit_bias", "clamp temperature"


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole HTTP response, as a conversation gets it."""

    status: int
    headers: Headers
    body: bytes


class Reader(Protocol):
    """Turns the bytes of a successful streamed answer into OpenAI's events."""

    def feed(self, data: bytes) -> bytes:
        """Whole OpenAI server-sent events that are complete with `data` (b"": none yet).

        Raises SluiceError where the upstream reports a failure in mid-stream or sends rubbish.
        """
        ...

    def finish(self) -> bytes:
        """The same for what was held when the upstream ended the body."""
        ...


@dataclass(frozen=True, slots=True)
class Pause:
    """A step of a conversation: wait. `queued`: no worker has taken the job yet."""

    seconds: float
    queued: bool = False


Step = Request | Pause | bytes
"""What a conversation yields: a request (answered by an Answer), a pause, or OpenAI events that are ready."""
Conversation = Generator[Step, Answer | None, None]


class Talker:
    """A provider's second base class: its answers take several requests (RunPod's queue: submit, poll, cancel)."""

    def converse(self, order: Order) -> Conversation:
        """The requests of one call in turn. Closed early (the client left), it leaves what `farewell` says to send."""
        raise NotImplementedError

    def farewell(self, conversation: Conversation) -> Request | None:
        """The request that ends upstream what this conversation began and did not see end; None: nothing to end."""
        raise NotImplementedError


class Provider:
    """One dialect. An instance holds no state of calls; it may hold what config.yaml says about its upstream."""

    name: str = ""
    base_url: str = ""  # where it lives when config.yaml does not say
    usual_path: str = ""  # appended to a base_url that has no path: "/v1"
    key_variable: str = ""  # the environment variable that usually holds its key
    key_required: bool = False  # even at an address of the user's own
    endpoints: frozenset[str] | None = None  # what it answers besides chat completions; None: whatever OpenAI has
    whole_by_stream: bool = False  # whole answers are asked for as streams
    usage: Literal["asked", "made", "unasked"] = "asked"
    # How the usage event of a stream comes about: it must be asked for, the reader makes it (both are taken out where
    # the client did not ask), or the upstream sends it unasked, and then it stays.

    echoes: bool = False  # answers that go on from an assistant message begin with the text of that message
    lines: bool = False  # its streams are lines of JSON (NDJSON), not server-sent events
    wants_need: bool = False  # `Order.need` is made for it even where no limits are known

    def request(self, order: Order) -> Request:
        """The HTTP request for this order. Raises client errors for what the upstream cannot express."""
        raise NotImplementedError

    def reader(self, order: Order) -> Reader:
        """A fresh reader for one streamed chat or text completion."""
        raise NotImplementedError

    def passing(self, order: Order) -> Reader:
        """The same for any other endpoint, whose events pass as they come."""
        return EventCutter()

    def whole(self, order: Order, body: bytes) -> bytes:
        """A whole 2xx answer as OpenAI would have sent it. Raises SluiceError where it holds an error."""
        raise NotImplementedError

    def failure(self, status: int, headers: Headers, body: bytes) -> SluiceError:
        """What an answer outside 2xx means."""
        raise NotImplementedError

    def failure_in(self, event: Mapping[str, Any]) -> SluiceError | None:
        """The failure that an event of OpenAI's form reports in a running stream; None: it reports none."""
        return error_in_event(event)

    def catalog(self, target: Target) -> Generator[Request, Answer, Sequence[Model] | None]:
        """The requests that list the upstream's models, and the list; None: it is well, and does not say what it has.

        Raises SluiceError where an answer is no list.
        """
        raise NotImplementedError

    def copes(self, problem: SluiceError, fields: Mapping[str, Any]) -> bool:
        """Whether the upstream itself sees to a call that is too much for its model. `problem`: in what way it is."""
        return False

    def listed_as(self, model: str) -> str:
        """The name that the upstream's own list has for a model that goes by several."""
        return model
