"""OpenTelemetry traces of calls and attempts, with the extra `otel` and where OTEL_* variables ask for them."""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from time import perf_counter, time_ns
from typing import TYPE_CHECKING, Any, Final

from proxy import __version__
from proxy.call import Call, Headers, Try
from proxy.errors import metric_code

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Tracer

log = logging.getLogger("sluice")

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_CONTEXT: Final = (b"traceparent", b"tracestate")
_FLUSH: Final = 2.0  # seconds for exporting the last spans at shutdown
_LONGEST: Final = 200  # characters of a model name, which clients can choose freely

_OPERATIONS: Final = {
    "chat/completions": "chat",
    "responses": "chat",
    "completions": "text_completion",
    "images/generations": "generate_content",
}
"""gen_ai.operation.name by endpoint; of all others the endpoint's own name."""

Rows = tuple[tuple[str, Callable[[Any], str | int | float | bool | None]], ...]

OF_A_CALL: Final[Rows] = (
    ("gen_ai.operation.name", lambda call: operation(call.endpoint)),
    ("gen_ai.request.model", lambda call: call.model[:_LONGEST]),
    ("gen_ai.request.stream", lambda call: call.stream),
    ("gen_ai.response.model", lambda call: call.trace.model[:_LONGEST] if call.trace.failure is None else None),
    ("gen_ai.response.time_to_first_chunk", lambda call: _first_chunk(call)),
    ("gen_ai.usage.input_tokens", lambda call: call.trace.usage.input),
    ("gen_ai.usage.output_tokens", lambda call: call.trace.usage.output),
    ("gen_ai.usage.cache_read.input_tokens", lambda call: call.trace.usage.cached),
    ("gen_ai.usage.reasoning.output_tokens", lambda call: call.trace.usage.reasoning),
    ("http.response.status_code", lambda call: call.trace.status or None),
    ("error.type", lambda call: metric_code(call.trace.failure) if call.trace.failure else None),
    ("sluice.request.id", lambda call: call.id),
    ("sluice.door", lambda call: call.door),
    ("sluice.route", lambda call: call.trace.route),
    ("sluice.upstream", lambda call: call.trace.upstream),
    ("sluice.cache", lambda call: call.trace.cache),
    ("sluice.attempts", lambda call: len(call.trace.attempts)),
    ("sluice.cost.usd", lambda call: call.trace.usage.cost),
)
OF_A_TRY: Final[Rows] = (
    ("gen_ai.provider.name", lambda tried: tried.provider),
    ("gen_ai.request.model", lambda tried: tried.model[:_LONGEST]),
    ("http.response.status_code", lambda tried: tried.status or None),
    ("error.type", lambda tried: None if tried.outcome == "ok" else tried.outcome),
    ("sluice.upstream", lambda tried: tried.upstream),
    ("sluice.outcome", lambda tried: tried.outcome),
)
"""Every attribute of a span and where it is read: the one place to follow the conventions as they move.

Source: open-telemetry/semantic-conventions-genai, all "Development"; what it has no name for is `sluice.*`. Nothing
here reads a prompt, an answer, a header's value or an error's text.
"""


def operation(endpoint: str) -> str:
    """gen_ai.operation.name of an endpoint: "chat", "embeddings", …"""
    return _OPERATIONS.get(endpoint, endpoint)


@dataclass(slots=True)
class Tracing:
    """Makes a span for every call and one for each attempt, on the event loop; a thread of the SDK exports them."""

    provider: "TracerProvider"
    _tracer: "Tracer" = field(init=False)
    _context: Any = field(init=False)  # W3C Trace Context, in and out
    _words: Any = field(init=False)  # the module opentelemetry.trace, imported only where tracing is on

    def __post_init__(self) -> None:
        from opentelemetry import trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._words, self._context = trace, TraceContextTextMapPropagator()
        self._tracer = self.provider.get_tracer("sluice", __version__)
        # It would log every malformed line that a client sends.
        logging.getLogger("opentelemetry.trace").setLevel(logging.ERROR)

    def begin(self, call: Call) -> None:
        """Opens the span of a call as a child of the client's, and passes its context on to upstreams."""
        span = self._tracer.start_span(
            f"{operation(call.endpoint)} {call.model[:_LONGEST]}",
            self._context.extract(_carried(call.headers)),
            self._words.SpanKind.SERVER,
            start_time=time_ns() - _nanoseconds(perf_counter() - call.began),
        )
        sent: dict[str, str] = {}
        self._context.inject(sent, self._words.set_span_in_context(span))
        ours = [(name.encode(), text.encode("latin-1")) for name, text in sent.items()]
        call.headers = [line for line in call.headers if line[0] not in _CONTEXT] + ours
        if span.is_recording():
            call.trace.span, call.trace.tries = span, []

    def ended(self, call: Call) -> None:
        """Closes the span of a call with attributes from its trace, and adds a child span for each attempt."""
        span = call.trace.span
        if span is None:
            return
        call.trace.span = None
        failure = call.trace.failure
        span.set_attributes(dict(_read(OF_A_CALL, call)))
        if failure is not None and failure.status >= 500:  # a client's fault is no error of a server span
            span.set_status(self._words.StatusCode.ERROR)
        within = self._words.set_span_in_context(span)
        epoch = span.start_time - _nanoseconds(call.began)  # one for all spans: their order is kept
        for tried in call.trace.tries or ():
            self._attempt(within, operation(call.endpoint), tried, epoch)
        span.end(epoch + _nanoseconds(perf_counter()))

    def _attempt(self, within: Any, name: str, tried: Try, epoch: int) -> None:
        tried.end("cancelled")  # no effect if it has ended already
        span = self._tracer.start_span(
            f"{name} {tried.model[:_LONGEST]}",
            within,
            self._words.SpanKind.CLIENT,
            dict(_read(OF_A_TRY, tried)),
            start_time=epoch + _nanoseconds(tried.began),
        )
        if tried.outcome not in ("ok", "cancelled"):
            span.set_status(self._words.StatusCode.ERROR)
        span.end(epoch + _nanoseconds(tried.ended))

    def close(self) -> None:
        """Exports the remaining spans. Blocks for two seconds at most, even if the collector does not answer."""
        flush = threading.Thread(target=self.provider.shutdown, name="otel-shutdown", daemon=True)
        flush.start()
        flush.join(_FLUSH)


def tracing_of(environ: Mapping[str, str]) -> Tracing | None:
    """Tracing as OpenTelemetry's standard variables ask for it; None where they do not, or are not usable."""
    asked = {name.strip().lower() for name in environ.get("OTEL_TRACES_EXPORTER", "").split(",")} - {""}
    if not asked and any(environ.get(name) for name in _ENDPOINTS):
        asked = {"otlp"}
    if not asked - {"none"} or environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    protocol = next((environ[name] for name in _PROTOCOLS if environ.get(name)), "http/protobuf")
    if asked != {"otlp"} or protocol != "http/protobuf":
        log.warning(
            "OTEL_* requests %s over %s; Sluice supports only otlp over http/protobuf.",
            ", ".join(sorted(asked)),
            protocol,
        )
    if "otlp" not in asked:
        return None
    try:
        return Tracing(_provider())
    except ImportError:
        log.warning(
            "OTEL_* requests traces, but the extra is not installed: pip install 'sluice[otel]'. No traces are sent."
        )
    except ValueError as error:  # the SDK's, of a variable that it cannot read
        log.warning("OTEL_*: %s. No traces are sent.", error)
    return None


def _provider() -> "TracerProvider":
    """A batching provider with the OTLP/HTTP exporter; both read the remaining OTEL_* variables themselves."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create({"service.version": __version__})
    if str(resource.attributes["service.name"]).startswith("unknown_service"):
        resource = resource.merge(Resource({"service.name": "sluice"}))
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)  # that would wait for 30 seconds
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


def _carried(headers: Headers) -> dict[str, list[str]]:
    """The trace context in the header lines. Several `traceparent` lines count as none (W3C Trace Context 2.2.1)."""
    parents, states = ([text.decode("latin-1") for name, text in headers if name == wanted] for wanted in _CONTEXT)
    return {"traceparent": parents, "tracestate": states} if len(parents) == 1 else {}


def _read(rows: Rows, source: Call | Try) -> Iterator[tuple[str, str | int | float | bool]]:
    """The attributes whose values are known."""
    return ((name, value) for name, read in rows if (value := read(source)) not in (None, ""))


def _first_chunk(call: Call) -> float | None:
    """Seconds from the start of a streamed call to its first token."""
    at = call.trace.content_at
    return at - call.began if call.stream and at is not None else None


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
