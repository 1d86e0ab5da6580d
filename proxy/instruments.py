"""Counters, gauges and histograms as plain numbers, turned into Prometheus families only when scraped.

prometheus-client's own children cost 2 to 4 us an operation; eight of them took a fifth of the time of a call.
"""

from bisect import bisect_left
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, Literal, TypeVar

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

Kind = Literal["counter", "gauge", "histogram"]
Join = Literal["sum", "min", "max"]
Labels = tuple[str, ...]
Snapshot = dict[str, list[tuple[Labels, list[float]]]]
"""By family name: label values and numbers of each series. Snapshots of several processes can be summed up."""


class Number:
    """One series of a counter or a gauge."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, by: float = 1.0) -> None:
        """Adds."""
        self.value += by

    def set(self, value: float) -> None:
        """Replaces (gauges)."""
        self.value = value

    def numbers(self) -> list[float]:
        """The value alone."""
        return [self.value]


class Numbers(dict[str, Number]):
    """One `Number` per value of a single label, made on first access: `counts["east"].value += 1`."""

    def __init__(self, made: Callable[[str], Number] = lambda value: Number()) -> None:
        super().__init__()
        self._made = made

    def __missing__(self, value: str) -> Number:
        child = self[value] = self._made(value)
        return child

    def totals(self) -> dict[str, float]:
        """Current values by label value."""
        return {name: number.value for name, number in self.items()}


class Spread:
    """One series of a histogram. `bounds`: upper bounds of the buckets, without +Inf."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Counts one value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def numbers(self) -> list[float]:
        """Counts per bucket (not cumulative), then the sum of the values."""
        return [*self._counts, self._sum]


C = TypeVar("C", Number, Spread)


class Family(Generic[C]):
    """All series of one metric name, each made on first access by its label values."""

    joined: Join = "sum"  # how the numbers of several processes become one

    def __init__(self, name: str, says: str, labels: Labels, kind: Kind, bounds: Sequence[float] = ()) -> None:
        self.name, self.says, self.label_names, self.kind, self.bounds = name, says, labels, kind, tuple(bounds)
        self._children: dict[Labels, C] = {}

    def labels(self, *values: str) -> C:
        """The series with these values, in the order of the label names."""
        child = self._children.get(values)
        if child is None:
            assert len(values) == len(self.label_names), self.name
            made: Any = Spread(self.bounds) if self.kind == "histogram" else Number()
            child = self._children[values] = made
        return child

    def forget(self, *values: str) -> None:
        """Removes the series with these label values."""
        self._children.pop(values, None)

    def snapshot(self) -> list[tuple[Labels, list[float]]]:
        """The numbers of every series."""
        return [(values, child.numbers()) for values, child in self._children.items()]

    def series(self) -> int:
        """How many lines the whole family takes in a scrape."""
        return len(self._children) * self.lines

    @property
    def lines(self) -> int:
        """How many lines one of its series takes in a scrape."""
        return len(self.bounds) + 3 if self.kind == "histogram" else 1

    def other(self, values: Labels) -> Labels:
        """The label values under which a series beyond the limit is counted: `other` in place of each unbounded label.

        The upstream label is kept where that leaves few series.
        """
        narrow = self.kind != "histogram" and "route" not in self.label_names
        gone = ("model",) if narrow else ("route", "upstream", "model")
        return tuple("other" if name in gone else value for name, value in zip(self.label_names, values, strict=True))

    def exposed(self, series: Iterable[tuple[Labels, list[float]]]) -> Metric:
        """These series as a Prometheus metric family."""
        if self.kind == "histogram":
            return self._histogram(series)
        kind = CounterMetricFamily if self.kind == "counter" else GaugeMetricFamily
        family = kind(self.name, self.says, labels=self.label_names)
        for values, numbers in series:
            family.add_metric(values, numbers[0])
        return family

    def _histogram(self, series: Iterable[tuple[Labels, list[float]]]) -> Metric:
        family = HistogramMetricFamily(self.name, self.says, labels=self.label_names)
        ends = [*(str(bound) for bound in self.bounds), "+Inf"]
        for values, numbers in series:
            buckets, below = [], 0.0
            for end, count in zip(ends, numbers[:-1], strict=True):
                below += count
                buckets.append((end, below))
            family.add_metric(values, buckets, numbers[-1])
        return family


class Instruments(Collector):
    """All metric families of one process, in the order they were made.

    `others`: snapshots of other processes, added to ours in each scrape. `limit`: called with a family's name, the
    label values of its series and the lines that one series takes in a scrape; returns the label values that keep a
    series of their own, all others are summed up under `other`. None: no limit, since one process alone stays within
    bounds.
    """

    def __init__(self) -> None:
        self._families: dict[str, Family[Any]] = {}
        self.others: list[Snapshot] = []
        self.limit: Callable[[str, Iterable[Labels], int], Container[Labels]] | None = None

    def counter(self, name: str, says: str, *labels: str) -> Family[Number]:
        """A family that only grows; `name` ends in `_total`."""
        return self._made(Family[Number](name, says, labels, "counter"))

    def gauge(self, name: str, says: str, *labels: str, joined: Join = "sum") -> Family[Number]:
        """A value that goes up and down; `joined`: how the values of several processes are combined."""
        made = self._made(Family[Number](name, says, labels, "gauge"))
        made.joined = joined
        return made

    def histogram(self, name: str, says: str, bounds: Sequence[float], *labels: str) -> Family[Spread]:
        """A distribution over buckets with these upper bounds."""
        return self._made(Family[Spread](name, says, labels, "histogram", bounds))

    def series(self) -> int:
        """How many lines a scrape of this process takes, other processes' left out."""
        return sum(family.series() for family in self._families.values())

    def snapshot(self) -> Snapshot:
        """All numbers of this process."""
        return {name: family.snapshot() for name, family in self._families.items()}

    def collect(self) -> Iterator[Metric]:
        """Prometheus families: our numbers with those of the other processes added (prometheus-client's Collector)."""
        for name, family in self._families.items():
            snapshots = [family.snapshot(), *(other.get(name, []) for other in self.others)]
            series = _joined(snapshots, family.joined)
            if self.limit is not None:
                admitted = self.limit(name, [values for values, _ in series], family.lines)
                named = [(at if at in admitted else family.other(at), numbers) for at, numbers in series]
                series = _joined([named], family.joined)
            yield family.exposed(series)

    def _made(self, family: Family[C]) -> Family[C]:
        self._families[family.name] = family
        return family


def _joined(
    snapshots: Sequence[Iterable[tuple[Labels, list[float]]]], how: Join
) -> Iterable[tuple[Labels, list[float]]]:
    joins: Mapping[Join, Callable[[tuple[float, float]], float]] = {"sum": sum, "min": min, "max": max}
    join = joins[how]
    total: dict[Labels, list[float]] = {}
    for series in snapshots:
        for values, numbers in series:
            kept = total.get(tuple(values))
            total[tuple(values)] = (
                list(numbers) if kept is None else [join(pair) for pair in zip(kept, numbers, strict=True)]
            )
    return total.items()
