"""What is scraped is what prometheus_client itself would say of the same observations."""

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from proxy.instruments import Instruments, Snapshot
from proxy.metrics import DURATION, FIRST_TOKEN, OVERHEAD, PER_TOKEN, Metrics

LABEL = st.text(st.characters(codec="utf-8"), max_size=6) | st.sampled_from(['"', "\\", "\n", "\\n", "{}"])
NUMBER = st.floats(0, 1e6) | st.integers(0, 2**53)


def text(registry: CollectorRegistry) -> list[str]:
    """The lines that count: without the times of creation, which ours do not have."""
    lines = generate_latest(registry).decode().split("\n")
    return sorted(line for line in lines if "_created" not in line)


def ours() -> tuple[Instruments, CollectorRegistry]:
    made, registry = Instruments(), CollectorRegistry()
    registry.register(made)
    return made, registry


@settings(max_examples=25)
@given(st.lists(st.tuples(LABEL, LABEL, NUMBER), max_size=8))
def test_counters_and_gauges_are_exposed_as_by_prometheus_client(seen: list[tuple[str, str, float]]) -> None:
    theirs = CollectorRegistry()
    made, registry = ours()
    counter, gauge = made.counter("sluice_x_total", "Says.", "a", "b"), made.gauge("sluice_y", "Says.", "a", "b")
    their_counter = Counter("sluice_x_total", "Says.", ("a", "b"), registry=theirs)
    their_gauge = Gauge("sluice_y", "Says.", ("a", "b"), registry=theirs)
    for a, b, number in seen:
        for mine, other in ((counter, their_counter), (gauge, their_gauge)):
            mine.labels(a, b).inc(number)
            other.labels(a, b).inc(number)
        gauge.labels(b, a).value -= 2
        their_gauge.labels(b, a).dec(2)
        gauge.labels(a, a).set(number)
        their_gauge.labels(a, a).set(number)
    assert text(registry) == text(theirs)


@pytest.mark.parametrize("bounds", [OVERHEAD, FIRST_TOKEN, PER_TOKEN, DURATION, (1, 2.5, 1000)])
def test_histograms_at_within_and_beyond_every_bound(bounds: tuple[float, ...]) -> None:
    theirs = CollectorRegistry()
    made, registry = ours()
    mine = made.histogram("sluice_x_seconds", "Says.", [float(bound) for bound in bounds], "a")
    other = Histogram("sluice_x_seconds", "Says.", ("a",), buckets=bounds, registry=theirs)
    for bound in bounds:
        for value in (bound, bound * 0.999, bound * 1.001, 0.0, bounds[-1] * 2):
            mine.labels("x").observe(value)
            other.labels("x").observe(value)
    assert text(registry) == text(theirs)


@settings(max_examples=25)
@given(st.lists(NUMBER))
def test_histograms_are_exposed_as_by_prometheus_client(values: list[float]) -> None:
    theirs = CollectorRegistry()
    made, registry = ours()
    mine = made.histogram("sluice_x_seconds", "Says.", DURATION).labels()
    other = Histogram("sluice_x_seconds", "Says.", buckets=DURATION, registry=theirs)
    for value in values:
        mine.observe(value)
        other.observe(value)
    assert text(registry) == text(theirs)


def test_a_series_is_there_from_when_it_is_asked_for_and_only_once() -> None:
    made, registry = ours()
    family = made.counter("sluice_x_total", "Says.", "a")
    assert "sluice_x_total{" not in generate_latest(registry).decode()
    assert family.labels("1") is family.labels("1")
    assert 'sluice_x_total{a="1"} 0.0' in generate_latest(registry).decode()


def test_the_numbers_of_other_processes_are_added_also_after_a_way_through_json() -> None:
    made, registry = ours()
    counter = made.counter("sluice_x_total", "Says.", "a")
    spread = made.histogram("sluice_y_seconds", "Says.", (1.0, 2.0))
    counter.labels("both").inc(2)
    spread.labels().observe(1.5)
    read: Any = orjson.loads(orjson.dumps(made.snapshot()))
    other: Snapshot = {name: [(tuple(values), numbers) for values, numbers in series] for name, series in read.items()}
    counter.labels("here").inc()
    made.others = [other, {"sluice_x_total": [(("there",), [7.0])]}, {}]
    said = generate_latest(registry).decode()
    for line in ('x_total{a="both"} 4.0', 'x_total{a="here"} 1.0', 'x_total{a="there"} 7.0',
                 'y_seconds_bucket{le="1.0"} 0.0', 'y_seconds_bucket{le="2.0"} 2.0', "y_seconds_sum 3.0"):  # fmt: skip
        assert f"sluice_{line}\n" in said
    assert counter.labels("both").value == 2  # adding up changes nothing of ours


def test_every_metric_of_ours_is_named_as_prometheus_wants_it() -> None:
    made, registry = ours()
    Metrics(made)
    for family in registry.collect():
        assert family.name.startswith("sluice_")
        assert family.documentation
