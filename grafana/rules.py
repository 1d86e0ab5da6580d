"""Recording rules and alerts as tables; docs/operations.md has a runbook for each alert."""

from dataclasses import dataclass
from typing import Any, Final

from grafana.metrics import (
    ATTEMPTS,
    BREAKER,
    BUILD,
    CONFIG_VALID,
    COST,
    DISPATCH_SENT,
    FAULTS,
    FIRST_TOKEN,
    LOG_DROPPED,
    OVERHEAD,
    REQUESTS,
    UP,
    UPSTREAM_SENT,
    codes,
)
from grafana.queries import difference

RUNBOOKS: Final = "docs/operations.md"


@dataclass(frozen=True, slots=True)
class Recording:
    """A series kept under a name of the form level:metric:operation, so that long ranges stay quick."""

    record: str
    expr: str
    labels: tuple[tuple[str, str], ...] = ()

    def json(self) -> dict[str, Any]:
        """As Prometheus reads it."""
        made: dict[str, Any] = {"record": self.record, "expr": self.expr}
        return made | ({"labels": dict(self.labels)} if self.labels else {})


@dataclass(frozen=True, slots=True)
class Alert:
    """Fires while `value` meets `condition` (such as "> 0.05") for the time `lasting`."""

    name: str
    value: str
    condition: str
    lasting: str
    severity: str  # critical: wake somebody · warning: look at it today
    summary: str
    description: str

    def json(self) -> dict[str, Any]:
        """As Prometheus reads it."""
        return {
            "alert": self.name,
            "expr": f"{self.value} {self.condition}",
            "for": self.lasting,
            "labels": {"severity": self.severity},
            "annotations": {
                "summary": self.summary,
                "description": self.description,
                "runbook": f"{RUNBOOKS}#{self.name.lower()}",
            },
        }


def _rate(metric: str, where: str = "") -> str:
    return f"rate({metric}{{{where}}}[5m])" if where else f"rate({metric}[5m])"


def _failed_share(by: str) -> str:
    """Of each upstream's attempts. One that never failed has no series of failures; nought of its own stands in."""
    tried = f"sum by ({by}) ({_rate(ATTEMPTS)})"
    failed = f"sum by ({by}) ({_rate(ATTEMPTS, FAILURES)})"
    return f"({failed} or 0 * {tried}) / ({tried} > 0)"


def _grown(by: str, metric: str, where: str, over: str) -> str:
    """By how much a counter grew. A first count makes a series, of which Prometheus does not know that it was nought:
    it is added, where its process was scraped before."""
    series = f"{metric}{{{where}}}"
    first = f"({series} unless {series} offset {over}) and on (job, instance) (up offset {over} == 1)"
    return f"sum by ({by}) (increase({series}[{over}])) > 0 or sum by ({by}) ({first})"


FAILURES: Final = 'outcome=~"upstream_.+"'

_CALLS: Final = f"sum by (job) ({_rate(REQUESTS)})"
_FAILED_CALLS: Final = f"""sum by (job) ({_rate(REQUESTS, f'code=~"{codes("upstream", "proxy")}"')})"""
_FIRST_TOKENS: Final = f"sum by (job, route, le) ({_rate(FIRST_TOKEN + '_bucket')})"
_OVERHEADS: Final = f"sum by (job, le) ({_rate(OVERHEAD + '_bucket')})"

RECORDINGS: Final = (
    Recording("job:sluice_requests:rate5m", _CALLS),
    *(
        Recording(
            "fault:sluice_requests:rate5m",
            f"""sum by (job) ({_rate(REQUESTS, f'code=~"{codes(fault)}"')}) or 0 * {_CALLS}""",
            (("fault", fault),),
        )
        for fault in FAULTS
    ),
    Recording("job:sluice_requests_failed:ratio_rate5m", f"({_FAILED_CALLS} or 0 * {_CALLS}) / ({_CALLS} > 0)"),
    Recording("upstream:sluice_attempts:rate5m", f"sum by (job, upstream) ({_rate(ATTEMPTS)})"),
    Recording("upstream:sluice_attempts_failed:ratio_rate5m", _failed_share("job, upstream")),
    Recording("route:sluice_time_to_first_token_seconds:p95_5m", f"histogram_quantile(0.95, {_FIRST_TOKENS})"),
    Recording("job:sluice_overhead_seconds:p99_5m", f"histogram_quantile(0.99, {_OVERHEADS})"),
    Recording("upstream:sluice_cost_usd:increase1h", f"sum by (job, upstream) (increase({COST}[1h]))"),
)

ALERTS: Final = (
    Alert(
        "SluiceDown",
        'sum(up{job="sluice"} or vector(0))',
        "== 0",
        "1m",
        "critical",
        "No Sluice answers Prometheus",
        "No process of the job sluice could be scraped for a minute: probably no call is answered.",
    ),
    Alert(
        "SluiceInstanceDown",
        'up{job="sluice"}',
        "== 0",
        "2m",
        "warning",
        "Sluice on {{ $labels.instance }} does not answer Prometheus",
        "One of several processes has ended or hangs; the others take its calls.",
    ),
    Alert(
        "SluiceCallsFailing",
        "job:sluice_requests_failed:ratio_rate5m",
        "> 0.05",
        "5m",
        "critical",
        "More than 5 % of calls fail through no fault of their clients",
        "This is what clients see, after retries and fallbacks.",
    ),
    Alert(
        "SluiceInternalErrors",
        _grown("job, code", REQUESTS, 'code=~"proxy_internal|proxy_overloaded|proxy_loop"', "5m"),
        "> 0",
        "1m",
        "critical",
        "Sluice itself fails calls: {{ $labels.code }}",
        "An error of Sluice's own, not of a client or an upstream.",
    ),
    Alert(
        "SluiceOneDoorBroken",
        f"abs({difference(*(f'sum by (job, upstream) ({sent})' for sent in (UPSTREAM_SENT, DISPATCH_SENT)))})",
        "> 0",
        "2m",
        "critical",
        "Requests to {{ $labels.upstream }} bypass the routing table or are not counted",
        "The requests sent to the upstream and those counted by dispatch differ.",
    ),
    Alert(
        "SluiceConfigInvalid",
        f"min by (job, instance) ({CONFIG_VALID})",
        "== 0",
        "1m",
        "warning",
        "config.yaml on {{ $labels.instance }} is invalid; the last valid one is in force",
        "A reload was refused. Calls are answered as before, but a restart would fail.",
    ),
    Alert(
        "SluiceUpstreamDown",
        f"min by (job, upstream) ({UP})",
        "== 0",
        "5m",
        "warning",
        "The upstream {{ $labels.upstream }} does not answer",
        "Its list of models cannot be fetched, or it refuses our key. Routes fall back to their later targets.",
    ),
    Alert(
        "SluiceUpstreamFailing",
        "upstream:sluice_attempts_failed:ratio_rate5m",
        "> 0.2",
        "5m",
        "warning",
        "More than 20 % of attempts at {{ $labels.upstream }} fail",
        "Clients may not notice as long as retries and fallbacks succeed.",
    ),
    Alert(
        "SluiceUpstreamAuthFailed",
        _grown("job, upstream", ATTEMPTS, 'outcome="upstream_auth_failed"', "10m"),
        "> 0",
        "1m",
        "critical",
        "The upstream {{ $labels.upstream }} refuses our key",
        "401, 402 or 403 to our own credentials: the key is wrong, expired or out of credit.",
    ),
    Alert(
        "SluiceBreakerOpen",
        f"max by (job, upstream, model) ({BREAKER})",
        "== 1",
        "2m",
        "warning",
        "The breaker of {{ $labels.upstream }}/{{ $labels.model }} stays open",
        "After several failures in a row no calls are sent there; the probes fail too.",
    ),
    Alert(
        "SluiceSlowFirstToken",
        "route:sluice_time_to_first_token_seconds:p95_5m",
        "> 15",
        "10m",
        "warning",
        "First tokens on {{ $labels.route }} take more than 15 s",
        "This is the 95th percentile, retries and fallbacks included.",
    ),
    Alert(
        "SluiceSlowItself",
        "job:sluice_overhead_seconds:p99_5m",
        "> 0.05",
        "10m",
        "warning",
        "Sluice adds more than 50 ms to one call in a hundred",
        "Time not spent waiting for an upstream. Usual causes: too little CPU, very large bodies.",
    ),
    Alert(
        "SluiceCallsRefused",
        f'sum by (job, route) (rate({REQUESTS}{{code="policy_concurrency"}}[5m]))',
        "> 0.1",
        "10m",
        "warning",
        "Calls on {{ $labels.route }} are refused by max_in_flight",
        "The limit is too low, or one client sends too many calls.",
    ),
    Alert(
        "SluiceLogDropped",
        f"sum by (job, instance) (increase({LOG_DROPPED}[5m]))",
        "> 0",
        "5m",
        "warning",
        "The log of {{ $labels.instance }} loses lines",
        "What reads its standard error hangs, has ended or is too slow. Calls are answered, but log lines are lost.",
    ),
    Alert(
        "SluiceVersionsMixed",
        f"count by (job) (count by (job, version) ({BUILD}))",
        "> 1",
        "30m",
        "warning",
        "More than one version of Sluice runs",
        "A roll-out has not finished for half an hour.",
    ),
)


def recording_rules() -> dict[str, Any]:
    """grafana/prometheus/rules.yml."""
    return {"groups": [{"name": "sluice", "rules": [recording.json() for recording in RECORDINGS]}]}


def alerting_rules() -> dict[str, Any]:
    """grafana/prometheus/alerts.yml."""
    return {"groups": [{"name": "sluice-alerts", "rules": [alert.json() for alert in ALERTS]}]}
