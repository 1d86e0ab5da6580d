"""Every ended call is counted once, and no client can make the series many."""

import asyncio
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from proxy.call import Call, Door
from proxy.errors import STATUS, SluiceError
from proxy.instruments import Instruments
from proxy.metrics import Metrics
from proxy.providers.contract import Provider, Target
from proxy.stages.metering import Meter, phase
from proxy.usage import Usage


class Counted:
    """A meter and what it exposes."""

    def __init__(self, *known: str) -> None:
        made = Instruments()
        self.registry = CollectorRegistry()
        self.registry.register(made)
        self.meter = Meter(Metrics(made), lambda upstream, model: model in known or model.startswith("listed-"))

    def samples(self) -> Iterator[tuple[str, dict[str, str], float]]:
        for family in text_string_to_metric_families(generate_latest(self.registry).decode()):
            for sample in family.samples:
                yield sample.name, sample.labels, sample.value

    def value(self, name: str, **labels: str) -> float:
        return sum(value for found, had, value in self.samples() if found == name and labels.items() <= had.items())


def call(
    model: str = "m", door: Door = "openai", upstream: str = "east", stream: bool = False, status: int = 200
) -> Call:
    made = Call("1", door, "chat/completions", model, b"", {}, stream=stream)
    made.trace.route, made.trace.upstream, made.trace.model, made.trace.status = "gpt-", upstream, model, status
    return made


def test_a_call_is_counted_and_timed_with_all_it_took() -> None:
    counted = Counted("gpt-4o")
    made = call("gpt-4o", stream=True)
    counted.meter.stream_began(made)
    assert counted.value("sluice_streams_open") == 1
    made.trace.usage = Usage(10, 5, 4, 2, 0.25)
    made.trace.content_at, made.trace.last_at = made.began + 0.5, made.began + 0.9
    made.trace.malformed = 3
    counted.meter.ended(made, None)
    place = {"upstream": "east", "model": "gpt-4o"}
    assert counted.value("sluice_requests_total", door="openai", route="gpt-", status="200", code="ok", **place) == 1
    assert counted.value("sluice_streams_open") == 0
    for kind, tokens in {"input": 10, "output": 5, "cached": 4, "reasoning": 2}.items():
        assert counted.value("sluice_tokens_total", kind=kind, **place) == tokens
    assert counted.value("sluice_cost_usd_total", **place) == 0.25
    assert counted.value("sluice_time_to_first_token_seconds_sum", **place) == pytest.approx(0.5)
    assert counted.value("sluice_time_per_output_token_seconds_sum", **place) == pytest.approx(0.1)
    assert counted.value("sluice_malformed_events_total", upstream="east") == 3
    assert counted.value("sluice_request_duration_seconds_count", route="gpt-", upstream="east") == 1


@pytest.mark.parametrize("code", STATUS)
def test_a_failure_is_counted_by_its_code_and_status(code: str) -> None:
    counted = Counted("m")
    made = call()
    counted.meter.ended(made, SluiceError(code, "x"))
    assert counted.value("sluice_requests_total", code=code, status=str(STATUS[code])) == 1


def test_what_an_upstream_calls_its_error_is_no_label() -> None:
    counted = Counted("m")
    counted.meter.ended(call(), SluiceError("made_up_by_upstream", "x", status=418))
    assert counted.value("sluice_requests_total", code="client_invalid_request", status="418") == 1


def test_a_failure_of_ours_and_a_client_that_left() -> None:
    counted = Counted("m")
    counted.meter.ended(call(), ZeroDivisionError())
    assert counted.value("sluice_requests_total", code="proxy_internal", status="500") == 1
    waiting, streaming, early = call(), call(), call()
    streaming.trace.content_at = streaming.began
    early.trace.route = ""
    for made, where in ((waiting, "waiting"), (streaming, "streaming"), (early, "admission")):
        assert phase(made) == where
        counted.meter.ended(made, asyncio.CancelledError())
        assert counted.value("sluice_client_disconnects_total", phase=where) == 1
    assert counted.value("sluice_requests_total", code="client_cancelled", status="499") == 3


def test_attempts_under_way_come_back_to_nothing() -> None:
    counted = Counted("m")
    target = Target("east", "m", Provider(), "", "")
    for _ in range(3):
        counted.meter.attempt_began("east")
    assert counted.meter.under_way("east") == counted.value("sluice_in_flight", upstream="east") == 3
    for outcome in ("ok", "cancelled", "upstream_error"):
        counted.meter.attempt_ended(target, outcome)
        assert counted.value("sluice_attempts_total", upstream="east", model="m", outcome=outcome) == 1
    assert counted.meter.under_way("east") == 0


def test_listeners_are_called_at_every_end() -> None:
    reported: list[str] = []
    meter = Meter(
        Metrics(Instruments()), lambda upstream, model: True, report=lambda call, seconds: reported.append(call.id)
    )
    meter.ended(call(), None)
    meter.ended(call(), SluiceError("upstream_error", "x"))
    assert reported == ["1", "1"]


@pytest.mark.parametrize("listed", [False, True])
def test_no_number_of_names_makes_the_series_more_than_ten_thousand(listed: bool) -> None:
    """Names that clients make up, and the names of a catalogue that is as large as an upstream wants."""
    counted = Counted()
    doors: tuple[Door, ...] = ("openai", "chat", "vapi", "admin")
    for at in range(20_000):
        name = f"listed-{at}" if listed else ("{}" * 40, f'm{at}"\n\\', f"m{at}", "\u2028")[at % 4]
        made = call(name, doors[at % 4], f"up{at % 5}", bool(at % 2), 200)
        made.trace.usage = Usage(1, 2, 3, 4, 0.5)
        made.trace.content_at = made.trace.last_at = made.began
        made.id = f"id-{at}"
        target = Target(f"up{at % 5}", name, Provider(), "", "")
        if made.stream:
            counted.meter.stream_began(made)
        counted.meter.attempt_began(target.upstream)
        code = list(STATUS)[at % len(STATUS)]
        counted.meter.attempt_ended(target, code if at % 3 else "ok")
        counted.meter.ended(made, SluiceError(code, "x", status=400 + at % 100) if at % 3 == 1 else None)
    assert sum(1 for _ in counted.samples()) <= 10_000
    assert counted.value("sluice_requests_total") == 20_000
    assert counted.value("sluice_attempts_total") == 20_000
    assert len(counted.meter._bound) <= 20_000
    assert len(counted.meter._outcomes) <= 2_000


def test_a_catalogue_of_any_size_leaves_routes_and_upstreams_distinguishable() -> None:
    counted = Counted()
    for at in range(2_000):
        made = call(f"listed-{at}", upstream=f"up{at % 3}")
        made.trace.content_at = made.began
        counted.meter.ended(made, SluiceError("upstream_error", "x") if at % 2 else None)
    for name in ("sluice_requests_total", "sluice_request_duration_seconds_count"):
        assert sum(counted.value(name, upstream=f"up{at}") for at in range(3)) == 2_000


def test_names_that_nobody_knows_are_one() -> None:
    counted = Counted("m")
    for name in ("x", "y", ""):
        counted.meter.ended(call(name), None)
    assert counted.value("sluice_requests_total", model="other") == 3


def test_a_model_that_becomes_known_gets_its_name() -> None:
    known: set[str] = set()
    meter = Meter(Metrics(Instruments()), lambda upstream, model: model in known)
    assert meter._placed(call("m")).bound.labels[3] == "other"
    known.add("m")
    meter.forget()
    assert meter._placed(call("m")).bound.labels[3] == "m"
