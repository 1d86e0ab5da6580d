"""Counters, gauges and histograms that are plain numbers while calls run, and Prometheus' families when scraped.

prometheus-client's own children cost 2 to 4 us an operation; eight of them were a fifth of a call.
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
"""By family: label values and numbers of each child; sums of snapshots are snapshots."""


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
    """Numbers by one label's value, made when first asked for: `counts["east"].value += 1`."""

    def __init__(self, made: Callable[[str], Number] = lambda value: Number()) -> None:
        super().__init__()
        self._made = made

    def __missing__(self, value: str) -> Number:
        child = self[value] = self._made(value)
        return child

    def told(self) -> dict[str, float]:
        """What they have come to."""
        return {name: number.value for name, number in self.items()}


class Spread:
    """One series of a histogram. `bounds`: upper ends of the buckets, the infinite one left out."""

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
        """Counts of each bucket alone, then the sum."""
        return [*self._counts, self._sum]


C = TypeVar("C", Number, Spread)


class Family(Generic[C]):
    """All series of one name, made by the labels' values when first asked for."""

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
        """The series with these values is told of no more."""
        self._children.pop(values, None)

    def snapshot(self) -> list[tuple[Labels, list[float]]]:
        """The numbers of every series."""
        return [(values, child.numbers()) for values, child in self._children.items()]

    def series(self) -> int:
        """How many lines a scrape gets of it."""
        return len(self._children) * self.lines

    @property
    def lines(self) -> int:
        """How many lines a scrape gets of one of its series."""
        return len(self.bounds) + 3 if self.kind == "histogram" else 1

    def other(self, values: Labels) -> Labels:
        """The labels of the series that one counts in which is not told apart: `other` for what there may be many of.

        An upstream keeps its name where that makes few series.
        """
        narrow = self.kind != "histogram" and "route" not in self.label_names
        gone = ("model",) if narrow else ("route", "upstream", "model")
        return tuple("other" if name in gone else value for name, value in zip(self.label_names, values, strict=True))

    def exposed(self, series: Iterable[tuple[Labels, list[float]]]) -> Metric:
        """Prometheus' family of these series."""
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
    """Families in the order they were made. `others`: snapshots of other processes, added when scraped.

    `told` gets a family's name, its series and the lines that each takes, and gives the series that are told apart; all
    others count as `other`. None: all are told apart, since one process has few enough; several together may not.
    """

    def __init__(self) -> None:
        self._families: dict[str, Family[Any]] = {}
        self.others: list[Snapshot] = []
        self.told: Callable[[str, Iterable[Labels], int], Container[Labels]] | None = None

    def counter(self, name: str, says: str, *labels: str) -> Family[Number]:
        """A family that only grows; `name` ends in `_total`."""
        return self._made(Family[Number](name, says, labels, "counter"))

    def gauge(self, name: str, says: str, *labels: str, joined: Join = "sum") -> Family[Number]:
        """A family that goes up and down; `joined`: how several processes' values become one."""
        made = self._made(Family[Number](name, says, labels, "gauge"))
        made.joined = joined
        return made

    def histogram(self, name: str, says: str, bounds: Sequence[float], *labels: str) -> Family[Spread]:
        """A family of distributions over these bucket bounds."""
        return self._made(Family[Spread](name, says, labels, "histogram", bounds))

    def series(self) -> int:
        """How many lines a scrape gets, other processes' left out."""
        return sum(family.series() for family in self._families.values())

    def snapshot(self) -> Snapshot:
        """All numbers of this process."""
        return {name: family.snapshot() for name, family in self._families.items()}

    def collect(self) -> Iterator[Metric]:
        """Prometheus' families, other processes' numbers added to ours."""
        for name, family in self._families.items():
            snapshots = [family.snapshot(), *(other.get(name, []) for other in self.others)]
            series = _joined(snapshots, family.joined)
            if self.told is not None:
                told = self.told(name, [values for values, _ in series], family.lines)
                named = [(at if at in told else family.other(at), numbers) for at, numbers in series]
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
