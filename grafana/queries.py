"""PromQL in the few forms that the panels need."""

from typing import Final

INSTANCE: Final = 'instance=~"$instance"'
"""The variable of both dashboards that narrows them down to some processes."""

ONE_UPSTREAM: Final = 'upstream="$upstream"'
"""The variable of the upstream dashboard."""

ZERO: Final = " or vector(0)"
"""What a sum is where nothing was counted yet: a series of a counter is there from its first count on."""


def select(metric: str, *where: str, over: str = "") -> str:
    """The series of a metric on the chosen instances; `over`: a range such as "5m"."""
    return f"{metric}{{{', '.join((INSTANCE, *where))}}}" + (f"[{over}]" if over else "")


def rate(metric: str, *where: str, by: str = "") -> str:
    """Per second, summed up by labels: `by="upstream, model"`."""
    return f"{_sum(by)}(rate({select(metric, *where, over='$__rate_interval')}))"


def increase(metric: str, *where: str, by: str = "", over: str = "$__range") -> str:
    """By how much counters grew within a range, summed up by labels."""
    return f"{_sum(by)}(increase({select(metric, *where, over=over)}))"


def total(metric: str, *where: str, by: str = "") -> str:
    """A gauge's or counter's value, summed up by labels."""
    return f"{_sum(by)}({select(metric, *where)})"


def quantile(of: float, histogram: str, *where: str, by: str = "") -> str:
    """A quantile of a histogram, apart by labels."""
    return f"histogram_quantile({of}, {rate(f'{histogram}_bucket', *where, by=f'le, {by}' if by else 'le')})"


def share(part: str, whole: str) -> str:
    """How much of the whole a part is, 0 to 1; a part that nothing counted yet is none of it."""
    return f"({part}{ZERO}) / {whole}"


def difference(one: str, other: str) -> str:
    """One less the other, by labels that both have; where only one of them counts something, the other is nought."""
    return f"({one} or 0 * {other}) - ({other} or 0 * {one})"


def _sum(by: str) -> str:
    return f"sum by ({by}) " if by else "sum"
