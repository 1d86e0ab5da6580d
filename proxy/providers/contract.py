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
    extra: Mapping[str, Any] | None = None  # read only by this provider's own code


@dataclass(frozen=True, slots=True)
class Target:
    """Where one attempt goes: upstream, address, key and model name, inseparable.

    Made only by the routing table, so one provider's key can never meet another's address.
    """

    upstream: str
    model: str
    provider: "Provider"
    base: str  # "https://host[:port]/path", without a trailing slash
    key: str = field(repr=False)
    headers: tuple[tuple[bytes, bytes], ...] = field(default=(), repr=False)  # of the config, sent with every request
    via: str = field(default="", repr=False)  # forward proxy URL, "h2", or "": our own HTTP/1.1 connection
    weight: int = 1
    prefill: bool | frozenset[str] = False  # can continue an assistant message: all models, or these
    options: Mapping[str, Any] = field(default_factory=dict)  # provider-specific keys of the upstream
    off: str = ""  # why it cannot be called: "OPENROUTER_API_KEY is not set"; "": it can

    @property
    def prefills(self) -> bool:
        """Whether this model can continue an assistant message."""
        return self.prefill if isinstance(self.prefill, bool) else self.model in self.prefill


@dataclass(slots=True)  # not frozen: that would cost half a microsecond per call
class Order:
    """A call as one target is to get it: rewritten, with the target's model name."""

    endpoint: str  # "chat/completions", "embeddings", …
    body: bytes  # OpenAI-shaped JSON
    stream: bool  # whether the upstream is to be asked for a stream
    headers: Headers  # the client's headers that may be passed on
    target: Target
    limits: Model | None = None  # what is known of the model: config over catalogue
    need: int = 0  # tokens that prompt and answer are estimated to take together
    fields: Mapping[str, Any] | None = None  # `body`, parsed, if available; `model` and `stream` in it are the client's

    @property
    def prompts(self) -> int:
        """How many prompts are answered: a text completion may have several, as texts or as lists of tokens."""
        prompts = self.fields.get("prompt") if self.fields and self.endpoint == "completions" else None
        if isinstance(prompts, list) and prompts and all(isinstance(prompt, str | list) for prompt in prompts):
            return len(prompts)
        return 1

    @property
    def choices(self) -> int:
        """How many choices the answer is to have: `n` for each prompt."""
        asked = self.fields.get("n") if self.fields else None
        return self.prompts * (asked if type(asked) is int else 1)

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
    changes: tuple[str, ...] = ()  # changes by the translation: "drop logit_bias", "clamp temperature"


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole HTTP response, as a conversation gets it."""

    status: int
    headers: Headers
    body: bytes


class Reader(Protocol):
    """Turns the bytes of a successful streamed answer into OpenAI's events."""

    def feed(self, data: bytes) -> bytes:
        """The OpenAI events completed by `data` (b"": none yet).

        Raises SluiceError if the upstream reports a failure within the stream, or sends invalid data.
        """
        ...

    def finish(self) -> bytes:
        """The same for what was held when the body ended."""
        ...


@dataclass(frozen=True, slots=True)
class Pause:
    """A step of a conversation: wait. `queued`: no worker has the job yet."""

    seconds: float
    queued: bool = False


Step = Request | Pause | bytes
"""What a conversation yields: a request (it is sent the Answer), a pause, or OpenAI events."""
Conversation = Generator[Step, Answer | None, None]


class Talker:
    """A second base class for providers whose answers take several requests (RunPod's queue: submit, poll, cancel)."""

    def converse(self, order: Order) -> Conversation:
        """The requests of one call in turn. If it is closed early (the client left), call `farewell`."""
        raise NotImplementedError

    def farewell(self, conversation: Conversation) -> Request | None:
        """The request that cancels upstream what this conversation started and has not seen end; None: nothing."""
        raise NotImplementedError


class Provider:
    """One dialect. An instance holds no state of calls, only options that config.yaml sets for its upstream."""

    name: str = ""
    base_url: str = ""  # the default address
    usual_path: str = ""  # appended to a base_url that has no path: "/v1"
    key_variable: str = ""  # the environment variable that usually holds its key
    key_required: bool = False  # even at an address of the user's own
    endpoints: frozenset[str] | None = None  # endpoints besides chat completions; None: all of OpenAI's
    whole_by_stream: bool = False  # whole answers are asked for as streams
    usage: Literal["asked", "made", "unasked"] = "asked"
    # How the usage event of a stream comes about: it must be asked for, the reader makes it (both are taken out where
    # the client did not ask), or the upstream sends it unasked, and then it stays.

    echoes: bool = False  # answers that continue an assistant message repeat its text first
    lines: bool = False  # its streams are lines of JSON (NDJSON), not server-sent events
    wants_need: bool = False  # it needs `Order.need` even where no limits are known

    def request(self, order: Order) -> Request:
        """The HTTP request for this order. Raises client errors for what the upstream cannot express."""
        raise NotImplementedError

    def reader(self, order: Order) -> Reader:
        """A new reader for one streamed chat or text completion."""
        raise NotImplementedError

    def passing(self, order: Order) -> Reader:
        """The same for any other endpoint, whose events pass unchanged."""
        return EventCutter()

    def whole(self, order: Order, body: bytes) -> bytes:
        """A whole 2xx answer in OpenAI's form. Raises SluiceError if it holds an error."""
        raise NotImplementedError

    def failure(self, status: int, headers: Headers, body: bytes) -> SluiceError:
        """The error that an answer outside 2xx means."""
        raise NotImplementedError

    def failure_in(self, event: Mapping[str, Any]) -> SluiceError | None:
        """The failure reported by an event of OpenAI's form in a running stream; None: it reports none."""
        return error_in_event(event)

    def catalog(self, target: Target) -> Generator[Request, Answer, Sequence[Model] | None]:
        """Requests for the upstream's models, returning the list; None: healthy, but it lists nothing.

        Raises SluiceError for an answer that is no list.
        """
        raise NotImplementedError

    def copes(self, problem: SluiceError, fields: Mapping[str, Any]) -> bool:
        """Whether the upstream itself handles a call that exceeds the limits of its model. `problem`: which limit."""
        return False

    def listed_as(self, model: str) -> str:
        """The name under which the upstream's list has a model that has several names."""
        return model
