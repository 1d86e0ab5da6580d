"""Counts and times every call for Prometheus, with label values that clients cannot multiply."""

import platform
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import Final

from proxy import __version__
from proxy.call import Call
from proxy.errors import SluiceError, metric_code
from proxy.instruments import Instruments, Number, Numbers
from proxy.providers.contract import Target
from proxy.usage import NO_USAGE, Usage, cost_of

OVERHEAD: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1)
FIRST_TOKEN: Final = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    *(15.0, 20.0, 30.0, 45.0, 60.0),
)
PER_TOKEN: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
DURATION: Final = (
    *(0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92),
    *(120.0, 300.0, 600.0),
)
_MOST_NAMES: Final = 2_000  # models, as clients name them, whose series are kept at hand
MOST_NAMED: Final = 7_000  # series from which on no more models are told apart
MOST_SERIES: Final = 8_000  # and no more routes and upstreams either

Labels = tuple[str, str, str, str]
"""Door, route, upstream, model."""


class Metrics:
    """Every metric but the one of the log itself; docs/operations.md has the table."""

    def __init__(self, made: Instruments) -> None:
        self._made = made
        self.requests = made.counter(
            "sluice_requests_total", "Calls ended.", "door", "route", "upstream", "model", "status", "code"
        )
        self.duration = made.histogram(
            "sluice_request_duration_seconds", "From a call's start to its last byte.", DURATION, "route", "upstream"
        )
        self.overhead = made.histogram(
            "sluice_overhead_seconds", "Time inside Sluice that was not waiting for an upstream.", OVERHEAD, "door"
        )
        self.first_token = made.histogram(
            "sluice_time_to_first_token_seconds", "From a call's start to its first token.", FIRST_TOKEN,
            "route", "upstream", "model",
        )  # fmt: skip
        self.per_token = made.histogram(
            "sluice_time_per_output_token_seconds", "Time between tokens of a stream.", PER_TOKEN, "upstream", "model"
        )
        self.attempts = made.counter("sluice_attempts_total", "Tries at targets.", "upstream", "model", "outcome")
        self.tokens = made.counter(
            "sluice_tokens_total", "Tokens as upstreams counted them.", "upstream", "model", "kind"
        )
        self.cost = made.counter("sluice_cost_usd_total", "Cost in USD, where it is known.", "upstream", "model")
        self.in_flight = Numbers(made.gauge("sluice_in_flight", "Attempts and answers under way.", "upstream").labels)
        self.streams = made.gauge("sluice_streams_open", "Streams under way.").labels()
        self.cache = made.counter("sluice_cache_total", "What the cache said.", "route", "result")
        self.breaker = made.gauge(
            "sluice_breaker_open", "1 while a breaker keeps calls away.", "upstream", "model", joined="max"
        )
        self.up = made.gauge("sluice_upstream_up", "1 while an upstream answers.", "upstream", joined="min")
        self.disconnects = made.counter("sluice_client_disconnects_total", "Clients that left before the end.", "phase")
        self.config_valid = made.gauge(
            "sluice_config_valid", "1 while config.yaml is what runs.", joined="min"
        ).labels()
        self.reloads = made.counter("sluice_config_reloads_total", "Reloads of the configuration.", "result")
        self.malformed = made.counter("sluice_malformed_events_total", "Events dropped, being no JSON.", "upstream")
        self.sent = Numbers(
            made.counter("sluice_upstream_sent_total", "Attempts counted where they leave.", "upstream").labels
        )
        self.dispatched = Numbers(
            made.counter("sluice_dispatch_sent_total", "Attempts counted by dispatch.", "upstream").labels
        )
        self.vapi = made.counter("sluice_vapi_events_total", "Messages of Vapi's webhook.", "type")
        made.gauge("sluice_build_info", "Always 1.", "version", "python", joined="max").labels(
            __version__, platform.python_version()
        ).set(1)
        self.config_valid.set(1)

    @property
    def full(self) -> bool:
        """Whether models that come now count as `other`. Asked for new series only."""
        return self._made.series() > MOST_NAMED

    def kept(self, labels: Labels, made: Container[Labels] = ()) -> Labels:
        """The labels that new series get: all of them, without the model once there are many, the door alone at last.

        `made`: labels of series that exist already.
        """
        door, route, upstream, _ = labels
        if not self.full:
            return labels
        by_place = door, route, upstream, "other"
        crowded = self._made.series() > MOST_SERIES and by_place not in made
        return (door, "other", "other", "other") if crowded else by_place


class Bound:
    """The children for one (door, route, upstream, model), so that counting a call looks nothing up."""

    def __init__(self, labels: Labels, metrics: Metrics) -> None:
        door, route, upstream, model = self.labels = labels
        self.ended = Endings(labels, metrics)
        self.duration = metrics.duration.labels(route, upstream)
        self.overhead = metrics.overhead.labels(door)
        self.first_token = metrics.first_token.labels(route, upstream, model)
        self.per_token = metrics.per_token.labels(upstream, model)
        self.tokens = Numbers(partial(metrics.tokens.labels, upstream, model))

    def spent(self, usage: Usage) -> None:
        """Tokens of each kind; of what is not known nothing is counted."""
        if usage.input:
            self.tokens["input"].value += usage.input
        if usage.output:
            self.tokens["output"].value += usage.output
        if usage.cached:
            self.tokens["cached"].value += usage.cached
        if usage.reasoning:
            self.tokens["reasoning"].value += usage.reasoning


class Endings(dict[tuple[int, str], Number]):
    """Counters of calls that ended, by status and code, made when first asked for."""

    def __init__(self, labels: Labels, metrics: Metrics) -> None:
        super().__init__()
        self._labels, self._metrics = labels, metrics

    def __missing__(self, ending: tuple[int, str]) -> Number:
        labels = self._metrics.kept(self._labels)
        child = self[ending] = self._metrics.requests.labels(*labels, str(ending[0]), ending[1])
        return child


@dataclass(frozen=True, slots=True)
class Place:
    """Where the calls of one model are counted, and what its tokens cost."""

    bound: Bound
    prices: Mapping[str, float] | None
    model: str  # as labels may name it


@dataclass(slots=True)
class Meter:
    """Watches calls. `known` tells whether a model of an upstream may stand as a label."""

    metrics: Metrics
    known: Callable[[str, str], bool]
    prices: Callable[[str, str], Mapping[str, float] | None] = lambda upstream, model: None  # USD per million tokens
    told: Callable[[Call, float], None] = lambda call, seconds: None  # of every call that ended, and its seconds
    booked: Callable[[Call, str], None] = lambda call, model: None  # the same, with its model as labels may name it
    _bound: dict[Labels, Bound] = field(default_factory=dict)
    _recent: dict[Labels, Place] = field(default_factory=dict)  # by the model's own name
    _outcomes: dict[tuple[str, str, str], Number] = field(default_factory=dict)

    def began(self, call: Call) -> None:
        """A call begins."""
        if call.stream:
            call.trace.counted = True
            self.metrics.streams.value += 1

    def ended(self, call: Call, error: BaseException | None) -> None:
        """A call ended: well, by a failure, or because its client left. Counts and times it."""
        trace = call.trace
        if trace.counted:
            self.metrics.streams.value -= 1
        if error is not None:
            self._note(call, error)
        self.count(call)

    def _note(self, call: Call, error: BaseException) -> None:
        trace = call.trace
        if isinstance(error, SluiceError):
            trace.failure, trace.status = error, error.status
        elif isinstance(error, Exception):
            trace.failure, trace.status = SluiceError("proxy_internal", "An unexpected error."), 500
        else:  # cancelled: the client left
            trace.failure = trace.failure or SluiceError("client_cancelled", "The client left.")
            trace.status = 499
            self.metrics.disconnects.labels(phase(call)).inc()

    def attempt_began(self, upstream: str) -> None:
        """An attempt at an upstream begins."""
        self.metrics.in_flight[upstream].value += 1

    def attempt_ended(self, target: Target, outcome: str) -> None:
        """An attempt, or the answer that came of it, ended: "ok", the error's code, or "cancelled"."""
        self.metrics.in_flight[target.upstream].value -= 1
        key = (target.upstream, target.model, outcome)
        child = self._outcomes.get(key)
        if child is None:
            model = "other" if self.metrics.full else self.model_label(target.upstream, target.model)
            child = self.metrics.attempts.labels(target.upstream, model, outcome)
            if len(self._outcomes) >= _MOST_NAMES:
                self._outcomes.clear()
            self._outcomes[key] = child
        child.value += 1

    def count(self, call: Call) -> None:
        """A call ended, as its trace says."""
        trace, seconds = call.trace, perf_counter() - call.began
        place = self._recent.get((call.door, trace.route, trace.upstream, trace.model)) or self._placed(call)
        bound = place.bound
        bound.ended[trace.status, "ok" if trace.failure is None else metric_code(trace.failure)].value += 1
        bound.duration.observe(seconds)
        bound.overhead.observe(trace.overhead if trace.overhead is not None else max(0.0, seconds - trace.waited))
        if trace.content_at is not None:
            bound.first_token.observe(trace.content_at - call.began)
        if trace.usage is not NO_USAGE:
            self._spent(call, place)
        if trace.malformed:
            self.metrics.malformed.labels(bound.labels[2]).inc(trace.malformed)
        self.booked(call, place.model)
        self.told(call, seconds)

    def _spent(self, call: Call, place: Place) -> None:
        """Counts what the answer took, and puts its price to it where the upstream did not say one."""
        trace, usage, bound = call.trace, call.trace.usage, place.bound
        bound.spent(usage)
        if call.allowance is not None:
            call.allowance.used((usage.input or 0) + (usage.output or 0))
        if usage.output and usage.output > 1 and call.stream and trace.content_at and trace.last_at:
            bound.per_token.observe((trace.last_at - trace.content_at) / (usage.output - 1))
        if place.prices and usage.cost is None:
            usage.cost = cost_of(usage, place.prices)
        if usage.cost:
            self.metrics.cost.labels(bound.labels[2], bound.labels[3]).inc(usage.cost)

    def under_way(self, upstream: str) -> int:
        """Calls that wait for this upstream or stream from it now."""
        return int(self.metrics.in_flight[upstream].value)

    def model_label(self, upstream: str, model: str) -> str:
        """The model's name if configuration or catalogue know it, else "other"."""
        return model if model and self.known(upstream, model) else "other"

    def _placed(self, call: Call) -> Place:
        """Where the call is counted, kept by the model's own name."""
        trace = call.trace
        model = self.model_label(trace.upstream, trace.model)
        labels: Labels = (call.door, trace.route, trace.upstream, model)
        if labels not in self._bound:
            labels = self.metrics.kept(labels, self._bound)
        bound = self._bound.get(labels) or Bound(labels, self.metrics)
        self._bound[labels] = bound
        if len(self._recent) >= _MOST_NAMES:
            self._recent.clear()
        place = Place(bound, self.prices(trace.upstream, trace.model), model)
        self._recent[call.door, trace.route, trace.upstream, trace.model] = place
        return place

    def learnt(self) -> None:
        """The catalogues know more than before: other models may stand as labels, and prices may have changed."""
        self._recent.clear()
        self._outcomes.clear()


def phase(call: Call) -> str:
    """How far a call was when its client left: before routing, waiting for the first token, or streaming."""
    if not call.trace.route:
        return "admission"
    return "streaming" if call.trace.content_at is not None else "waiting"
