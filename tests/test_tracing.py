"""Traces as a collector gets them: off a running proxy, in memory and over OTLP/HTTP."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from proxy.serving.listening import listen
from proxy.tracing import Tracing, tracing_of
from tests.doubles.faults import CutAfter, FirstTokenAfter, HoldAfter, Status
from tests.doubles.openai import OpenAIDouble
from tests.doubles.runpod import RunPodDouble
from tests.doubles.runpod_jobs import Plan
from tests.running import Running, sluice
from tests.waiting import wait_for

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="the extra otel is not installed")

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest  # noqa: E402
from opentelemetry.proto.common.v1.common_pb2 import KeyValue  # noqa: E402
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider  # noqa: E402
from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: E402
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter  # noqa: E402
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF  # noqa: E402
from opentelemetry.trace import SpanKind, StatusCode  # noqa: E402

ROOT = Path(__file__).parent.parent
CONFIG = """
upstreams:
  east: {{provider: openai, base_url: {east}, api_key: sk-east}}
  west: {{provider: openai, base_url: {west}, api_key: sk-west}}
defaults:
  timeouts: {{connect: 1s, first_token: 5s, idle: 5s, whole: 5s}}
  retry: {{attempts: 1}}
routes:
  - prefix: gpt-
    to: [east, "west/backup"]
  - model: fast
    to: [east/slow, "west/quick"]
    hedge: {{after: 50ms, budget: 100%}}
  - model: kept
    to: west
    cache: {{exact: 1m, sampled: true}}
"""
CANARY = "a-prompt-that-nobody-may-see"
HELLO = {"model": "gpt-4o", "messages": [{"role": "user", "content": CANARY}]}
STREAM = HELLO | {"stream": True}
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def proxy(east: OpenAIDouble, west: OpenAIDouble) -> Iterator[Running]:
    east.strict = west.strict = False
    with sluice(CONFIG.format(east=east.url, west=west.url)) as running:
        yield running


@pytest.fixture
def memory(proxy: Running) -> InMemorySpanExporter:
    return memory_of(proxy)


def memory_of(proxy: Running) -> InMemorySpanExporter:
    """What the proxy's spans are, as soon as they end."""
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace_with(proxy, provider)
    return exporter


def trace_with(proxy: Running, provider: TracerProvider) -> None:
    gateway = proxy.app.runtime.gateway
    gateway.stages = replace(gateway.stages, tracing=Tracing(provider))


def told(memory: InMemorySpanExporter, kind: SpanKind) -> list[ReadableSpan]:
    return [span for span in memory.get_finished_spans() if span.kind is kind]


def of_the_call(memory: InMemorySpanExporter) -> ReadableSpan:
    """The one call's span, which ends just after the client has its last byte."""
    wait_for(lambda: told(memory, SpanKind.SERVER))
    (span,) = told(memory, SpanKind.SERVER)
    return span


def of_the_tries(memory: InMemorySpanExporter) -> list[ReadableSpan]:
    """The attempts' spans, all below the call's and within its time."""
    call, tries = of_the_call(memory), told(memory, SpanKind.CLIENT)
    for tried in tries:
        assert tried.parent is not None and tried.parent.span_id == call.context.span_id
        assert tried.context.trace_id == call.context.trace_id
        assert tried.start_time and tried.end_time and call.start_time and call.end_time
        assert call.start_time <= tried.start_time <= tried.end_time <= call.end_time
    return tries


def said(span: ReadableSpan, *names: str) -> tuple[object, ...]:
    attributes = span.attributes or {}
    return tuple(attributes.get(name) for name in names)


def test_a_whole_answer_is_traced(proxy: Running, memory: InMemorySpanExporter) -> None:
    answer = proxy.chat(HELLO)
    call = of_the_call(memory)
    assert call.name == "chat gpt-4o" and call.status.status_code is StatusCode.UNSET and call.parent is None
    assert dict(call.attributes or {}) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.request.stream": False,
        "gen_ai.response.model": "gpt-4o",
        "gen_ai.usage.input_tokens": answer.json()["usage"]["prompt_tokens"],
        "gen_ai.usage.output_tokens": answer.json()["usage"]["completion_tokens"],
        "gen_ai.usage.cache_read.input_tokens": 0,
        "gen_ai.usage.reasoning.output_tokens": 0,
        "http.response.status_code": 200,
        "sluice.request.id": answer.headers["x-request-id"],
        "sluice.door": "openai",
        "sluice.route": "gpt-",
        "sluice.upstream": "east",
        "sluice.cache": "off",
        "sluice.attempts": 1,
    }
    (tried,) = of_the_tries(memory)
    assert tried.name == "chat gpt-4o"
    assert dict(tried.attributes or {}) == {
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "http.response.status_code": 200,
        "sluice.upstream": "east",
        "sluice.outcome": "ok",
    }


def test_a_stream_is_traced_to_its_end(proxy: Running, memory: InMemorySpanExporter, east: OpenAIDouble) -> None:
    east.script(FirstTokenAfter(0.1))
    assert "[DONE]" in proxy.chat(STREAM).text
    call, (tried,) = of_the_call(memory), of_the_tries(memory)
    first, stream, tokens = said(
        call, "gen_ai.response.time_to_first_chunk", "gen_ai.request.stream", "gen_ai.usage.output_tokens"
    )
    assert stream is True and isinstance(tokens, int) and tokens > 0
    assert call.start_time and call.end_time and isinstance(first, float)
    assert 0.09 < first <= (call.end_time - call.start_time) / 1e9
    assert tried.start_time and tried.end_time and tried.end_time - tried.start_time > 0.09e9
    assert said(tried, "sluice.outcome") == ("ok",)


def test_each_target_that_was_asked_is_traced(proxy: Running, memory: InMemorySpanExporter, east: OpenAIDouble) -> None:
    east.script(Status(503))
    assert proxy.chat(HELLO).status_code == 200
    first, second = of_the_tries(memory)
    wanted = ("sluice.upstream", "gen_ai.request.model", "sluice.outcome", "http.response.status_code", "error.type")
    assert said(first, *wanted) == ("east", "gpt-4o", "upstream_overloaded", 503, "upstream_overloaded")
    assert said(second, *wanted) == ("west", "backup", "ok", 200, None)
    assert (first.status.status_code, second.status.status_code) == (StatusCode.ERROR, StatusCode.UNSET)
    assert first.end_time and second.start_time and first.end_time <= second.start_time
    call = of_the_call(memory)
    assert said(call, "sluice.upstream", "gen_ai.response.model", "error.type") == ("west", "backup", None)
    assert call.status.status_code is StatusCode.UNSET


def test_a_failed_call_is_traced(
    proxy: Running, memory: InMemorySpanExporter, east: OpenAIDouble, west: OpenAIDouble
) -> None:
    east.script(Status(500))
    west.script(Status(500))
    answer = proxy.chat(HELLO)
    call = of_the_call(memory)
    assert said(call, "error.type", "http.response.status_code") == (answer.json()["error"]["code"], answer.status_code)
    assert call.status.status_code is StatusCode.ERROR and call.status.description is None
    assert len(of_the_tries(memory)) == 2


def test_a_broken_stream_is_traced(proxy: Running, memory: InMemorySpanExporter, east: OpenAIDouble) -> None:
    east.script(CutAfter(4))
    assert "upstream_truncated" in proxy.chat(STREAM).text
    (tried,) = of_the_tries(memory)
    assert said(of_the_call(memory), "error.type") == said(tried, "sluice.outcome") == ("upstream_truncated",)
    assert of_the_call(memory).status.status_code is tried.status.status_code is StatusCode.ERROR


def test_a_client_that_left_is_no_error_of_the_upstream(
    proxy: Running, memory: InMemorySpanExporter, east: OpenAIDouble
) -> None:
    east.script(HoldAfter(3))
    with proxy.client() as client, client.stream("POST", "/v1/chat/completions", json=STREAM) as answer:
        next(answer.iter_lines())
    call, (tried,) = of_the_call(memory), of_the_tries(memory)
    assert said(call, "error.type", "http.response.status_code") == ("client_cancelled", 499)
    assert said(tried, "sluice.outcome") == ("cancelled",)
    assert call.status.status_code is tried.status.status_code is StatusCode.UNSET


def test_an_attempt_that_outlives_its_call_has_the_status_of_its_answer(
    proxy: Running, memory: InMemorySpanExporter, west: OpenAIDouble
) -> None:
    west.script(HoldAfter(3))
    with proxy.client() as client:
        asked = ("POST", "/v1/chat/completions")
        with client.stream(*asked, json=STREAM | {"model": "kept"}) as first:
            lines = first.iter_lines()  # kept: the client hangs up when it is forgotten
            next(lines)
            with client.stream(*asked, json=STREAM | {"model": "kept"}) as second:
                assert second.headers["x-sluice-cache"] == "shared"
                first.close()
                (tried,) = of_the_tries(memory)
                west.release()
                assert "[DONE]" in second.read().decode()
    assert said(tried, "sluice.outcome", "http.response.status_code") == ("cancelled", 200)


def test_a_job_whose_polls_fail_has_the_status_with_which_its_answer_began() -> None:
    with RunPodDouble() as double:
        double.plan(Plan(working=9, lives=2))
        upstream = f"{{provider: runpod, base_url: {double.address}/v2, endpoint_id: ep-double, api_key: {double.key}}}"
        with sluice(f"upstreams: {{pod: {upstream}}}") as proxy:
            memory = memory_of(proxy)
            assert "upstream_error" in proxy.chat(STREAM | {"model": double.models[0]}).text
            (tried,) = of_the_tries(memory)
    assert said(tried, "sluice.outcome", "http.response.status_code") == ("upstream_error", 200)


def test_a_call_without_a_route_is_traced_without_attempts(proxy: Running, memory: InMemorySpanExporter) -> None:
    assert proxy.chat(HELLO | {"model": "nobody"}).status_code == 404
    call = of_the_call(memory)
    assert said(call, "error.type", "sluice.attempts") == ("model_not_found", 0) and not of_the_tries(memory)
    assert call.status.status_code is StatusCode.UNSET, "a client's fault"


def test_both_racers_are_traced(proxy: Running, memory: InMemorySpanExporter, east: OpenAIDouble) -> None:
    east.script(HoldAfter(0))
    assert "[DONE]" in proxy.chat(STREAM | {"model": "fast"}).text
    outcomes = {said(tried, "gen_ai.request.model", "sluice.outcome") for tried in of_the_tries(memory)}
    assert outcomes == {("slow", "cancelled"), ("quick", "ok")}


def test_other_endpoints_are_traced_by_their_operation(proxy: Running, memory: InMemorySpanExporter) -> None:
    with proxy.client() as client:
        client.post("/v1/embeddings", json={"model": "east/text-embedding-3-small", "input": CANARY})
    assert of_the_call(memory).name == "embeddings east/text-embedding-3-small"


def test_the_clients_trace_goes_on_through_the_proxy(
    proxy: Running, memory: InMemorySpanExporter, east: OpenAIDouble
) -> None:
    proxy.chat(HELLO, traceparent=PARENT, tracestate="vendor=1")
    call = of_the_call(memory)
    assert call.parent is not None and f"{call.parent.span_id:016x}" == PARENT.split("-")[2]
    (received,) = east.calls
    parents = [text.decode() for name, text in received.headers if name == b"traceparent"]
    assert parents == [f"00-{PARENT.split('-')[1]}-{call.context.span_id:016x}-01"]
    assert received.header("tracestate") == "vendor=1"


@pytest.mark.parametrize("parent", ["", "00-zz-1-01", PARENT.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32)])
def test_what_is_no_trace_context_begins_a_new_trace(
    proxy: Running, memory: InMemorySpanExporter, east: OpenAIDouble, parent: str
) -> None:
    assert proxy.chat(HELLO, traceparent=parent, tracestate="no state at all").status_code == 200
    call = of_the_call(memory)
    (received,) = east.calls
    assert call.parent is None
    flags = call.context.trace_flags
    assert flags & 1, "sampled"
    ours = f"00-{call.context.trace_id:032x}-{call.context.span_id:016x}-{flags:02x}"
    assert received.header("traceparent") == ours
    assert not received.header("tracestate")


def test_what_is_not_sampled_is_passed_on_all_the_same(proxy: Running, east: OpenAIDouble) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider(ALWAYS_OFF, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace_with(proxy, provider)
    assert proxy.chat(HELLO, traceparent=PARENT).status_code == 200
    (received,) = east.calls
    assert received.header("traceparent").startswith("00-0af7651916cd43dd8448eb211c80319c-")
    assert received.header("traceparent").endswith("-00") and not exporter.get_finished_spans()


def test_no_prompt_answer_or_key_is_in_a_span(proxy: Running, memory: InMemorySpanExporter, east: OpenAIDouble) -> None:
    east.script(Status(400, f"Bad request: {CANARY} sk-east"))
    for body in (HELLO, STREAM, HELLO):
        proxy.chat(body, authorization="Bearer key-of-a-client")
    wait_for(lambda: len(told(memory, SpanKind.SERVER)) == 3)
    shown = "".join(span.to_json() for span in memory.get_finished_spans())
    answer = proxy.chat(HELLO).json()["choices"][0]["message"]["content"]
    for secret in (CANARY, answer, "sk-east", "key-of-a-client"):
        assert secret not in shown


# Over the wire, by the standard variables.


class Collector(ThreadingHTTPServer):
    """An OTLP/HTTP receiver: keeps what it is sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Receiver)
        self.got: list[ExportTraceServiceRequest] = []
        self.asked: list[tuple[str, str | None, str | None]] = []  # path, content type, a header of ours

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Receiver(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.asked.append((self.path, self.headers["content-type"], self.headers["x-tenant"]))
        self.server.got.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join(5)


def asked(monkeypatch: pytest.MonkeyPatch, **environ: str) -> dict[str, str]:
    """The same environment for Sluice and for the SDK, which reads the process's for itself."""
    for name, text in environ.items():
        monkeypatch.setenv(name, text)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return environ


def texts(pairs: "list[KeyValue]") -> dict[str, str]:
    return {pair.key: pair.value.string_value for pair in pairs}


def test_a_collector_gets_the_batch_at_the_end(
    east: OpenAIDouble, west: OpenAIDouble, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = asked(monkeypatch, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_EXPORTER_OTLP_HEADERS="x-tenant=acme")
    config = CONFIG.format(east=east.url, west=west.url)
    with sluice(config, environ) as running:
        running.reload(config)
        for body in (HELLO, STREAM):
            assert running.chat(body).status_code == 200
    assert set(collector.asked) == {("/v1/traces", "application/x-protobuf", "acme")}
    resources = [sent for request in collector.got for sent in request.resource_spans]
    assert {texts(list(sent.resource.attributes))["service.name"] for sent in resources} == {"sluice"}
    spans = [span for sent in resources for scope in sent.scope_spans for span in scope.spans]
    assert sorted(span.kind for span in spans) == [2, 2, 3, 3], "two of SERVER, two of CLIENT"
    assert {span.name for span in spans} == {"chat gpt-4o"}
    assert {texts(list(span.attributes))["sluice.upstream"] for span in spans} == {"east"}
    calls = {span.span_id for span in spans if span.kind == 2}
    assert {span.parent_span_id for span in spans if span.kind == 3} == calls


def test_the_service_has_the_name_it_is_given(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    tracing = tracing_of(
        asked(monkeypatch, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{collector.url}/in", OTEL_SERVICE_NAME="edge")
    )
    assert tracing is not None
    tracing.provider.get_tracer("test").start_span("one").end()
    tracing.close()
    (request,) = collector.got
    assert texts(list(request.resource_spans[0].resource.attributes))["service.name"] == "edge"
    assert collector.asked[0][0] == "/in"


def test_a_dead_collector_slows_no_call_and_no_end(
    east: OpenAIDouble, west: OpenAIDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = set(threading.enumerate())
    (silent,) = listen("127.0.0.1", 0)  # takes connections, and never answers
    try:
        environ = asked(
            monkeypatch,
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{silent.getsockname()[1]}",
            OTEL_BSP_SCHEDULE_DELAY="10",
            OTEL_EXPORTER_OTLP_TIMEOUT="4",
        )
        with sluice(CONFIG.format(east=east.url, west=west.url), environ) as running:
            assert running.chat(HELLO).status_code == 200
            silent.settimeout(10)
            connection, _ = silent.accept()  # the exporter hangs from here on
            began = time.monotonic()
            for _ in range(10):
                assert running.chat(HELLO).status_code == running.chat(STREAM).status_code == 200
            assert time.monotonic() - began < 6
            assert running.app.tracing is not None
            began = time.monotonic()
            running.app.tracing.close()
            assert 1.9 < time.monotonic() - began < 4
            connection.close()
    finally:
        silent.close()
    wait_for(lambda: threads >= set(threading.enumerate()), 15)  # the exporter's, which tries again for a while


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_SERVICE_NAME": "edge"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "none"},
        {"OTEL_TRACES_EXPORTER": "zipkin"},
    ],
)
def test_without_its_variables_tracing_is_off(environ: dict[str, str]) -> None:
    assert tracing_of(environ) is None


def test_another_exporter_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    assert tracing_of({"OTEL_TRACES_EXPORTER": "zipkin"}) is None
    assert "zipkin" in caplog.text


def test_another_protocol_is_warned_of(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    tracing = tracing_of(asked(monkeypatch, OTEL_TRACES_EXPORTER="otlp", OTEL_EXPORTER_OTLP_PROTOCOL="grpc"))
    assert tracing is not None and "grpc" in caplog.text
    tracing.close()


def test_a_variable_that_means_nothing_keeps_no_proxy_from_starting(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = asked(monkeypatch, OTEL_TRACES_EXPORTER="otlp", OTEL_BSP_MAX_EXPORT_BATCH_SIZE="1000000")
    assert tracing_of(environ) is None and "max_export_batch_size" in caplog.text


def ran(code: str) -> str:
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    return run.stdout + run.stderr


def test_off_it_imports_nothing_of_opentelemetry() -> None:
    code = "import sys, proxy.app, proxy.tracing\nassert proxy.tracing.tracing_of({}) is None\n"
    assert ran(f"{code}print([name for name in sys.modules if 'opentelemetry' in name])").strip() == "[]"


def test_without_the_extra_it_warns_once_and_goes_on() -> None:
    code = "import sys\nsys.modules['opentelemetry'] = None\nfrom proxy.tracing import tracing_of\n"
    shown = ran(f"{code}print(tracing_of({{'OTEL_TRACES_EXPORTER': 'otlp'}}))")
    assert "None\n" in shown and shown.count("pip install 'sluice[otel]'") == 1
