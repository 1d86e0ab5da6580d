"""Counts and times every call for Prometheus, with label values that clients cannot multiply."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import Final

from proxy.call import Call
from proxy.errors import SluiceError, metric_code
from proxy.instruments import Number, Numbers
from proxy.metrics import Labels, Metrics
from proxy.providers.contract import Target
from proxy.usage import NO_USAGE, Usage, cost_of

_MOST_NAMES: Final = 2_000  # models, as clients name them, whose series are cached


class Bound:
    """The series of one (door, route, upstream, model), looked up once."""

    def __init__(self, labels: Labels, metrics: Metrics) -> None:
        door, route, upstream, model = self.labels = labels
        self.ended = Endings(labels, metrics)
        self.duration = metrics.duration.labels(route, upstream)
        self.overhead = metrics.overhead.labels(door)
        self.first_token = metrics.first_token.labels(route, upstream, model)
        self.per_token = metrics.per_token.labels(upstream, model)
        self.tokens = Numbers(partial(metrics.tokens.labels, upstream, model))

    def spent(self, usage: Usage) -> None:
        """Counts tokens of each kind; unknown ones are not counted."""
        if usage.input:
            self.tokens["input"].value += usage.input
        if usage.output:
            self.tokens["output"].value += usage.output
        if usage.cached:
            self.tokens["cached"].value += usage.cached
        if usage.reasoning:
            self.tokens["reasoning"].value += usage.reasoning


class Endings(dict[tuple[int, str], Number]):
    """Counters of ended calls by status and code, made on first access."""

    def __init__(self, labels: Labels, metrics: Metrics) -> None:
        super().__init__()
        self._labels, self._metrics = labels, metrics

    def __missing__(self, ending: tuple[int, str]) -> Number:
        labels = self._metrics.kept(self._labels)
        child = self[ending] = self._metrics.requests.labels(*labels, str(ending[0]), ending[1])
        return child


@dataclass(frozen=True, slots=True)
class Place:
    """Where the calls of one model are counted, and the prices of its tokens."""

    bound: Bound
    prices: Mapping[str, float] | None
    model: str  # its label value


@dataclass(slots=True)
class Meter:
    """Counts and times calls. `known`: whether a model of an upstream may become a label value."""

    metrics: Metrics
    known: Callable[[str, str], bool]
    prices: Callable[[str, str], Mapping[str, float] | None] = lambda upstream, model: None  # USD per million tokens
    report: Callable[[Call, float], None] = lambda call, seconds: None  # receives each ended call and its duration
    book: Callable[[Call, str], None] = lambda call, model: None  # receives each ended call and its model's label
    _bound: dict[Labels, Bound] = field(default_factory=dict)
    _recent: dict[Labels, Place] = field(default_factory=dict)  # by the model's own name
    _outcomes: dict[tuple[str, str, str], Number] = field(default_factory=dict)

    def stream_began(self, call: Call) -> None:
        """Counts a stream as open until the call ends."""
        call.trace.counted = True
        self.metrics.streams.value += 1

    def _note(self, call: Call, error: BaseException) -> None:
        trace = call.trace
        if isinstance(error, SluiceError):
            trace.failure, trace.status = error, trace.head or error.status
        elif isinstance(error, Exception):
            trace.failure, trace.status = SluiceError("proxy_internal", "An unexpected error."), trace.head or 500
        else:  # cancelled: the client left
            trace.failure = trace.failure or SluiceError("client_cancelled", "The client left.")
            trace.status = 499
            self.metrics.disconnects.labels(phase(call)).inc()

    def attempt_began(self, upstream: str) -> None:
        """Notes that an attempt at an upstream begins."""
        self.metrics.in_flight[upstream].value += 1

    def attempt_ended(self, target: Target, outcome: str) -> None:
        """Counts an attempt that ended, with its stream if any: "ok", the error's code, or "cancelled"."""
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

    def ended(self, call: Call, error: BaseException | None) -> None:
        """Counts and times a call that ended: successfully, by a failure, or because its client left."""
        trace, seconds = call.trace, perf_counter() - call.began
        if trace.counted:
            self.metrics.streams.value -= 1
        if error is not None:
            self._note(call, error)
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
        self.book(call, place.model)
        self.report(call, seconds)

    def _spent(self, call: Call, place: Place) -> None:
        """Counts the usage of the answer, and computes its cost where the upstream did not report one."""
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
        """The number of calls that wait for this upstream or stream from it now."""
        return int(self.metrics.in_flight[upstream].value)

    def model_label(self, upstream: str, model: str) -> str:
        """The model's label value: its name if configuration or catalogue know it, else "other"."""
        return model if model and self.known(upstream, model) else "other"

    def _placed(self, call: Call) -> Place:
        """The place where the call is counted, cached by the model's own name."""
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

    def forget(self) -> None:
        """Drops cached labels and prices, after a change of a catalogue."""
        self._recent.clear()
        self._outcomes.clear()


def phase(call: Call) -> str:
    """How far a call was when its client left: before routing, waiting for the first token, or streaming."""
    if not call.trace.route:
        return "admission"
    return "streaming" if call.trace.content_at is not None else "waiting"
