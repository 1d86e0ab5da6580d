"""The overview: what is asked of Sluice, what comes of it, what it costs, and whether Sluice itself is sound."""

from typing import Final

from grafana.metrics import (
    ATTEMPTS,
    BREAKER,
    BUILD,
    CACHE,
    CONFIG_VALID,
    COST,
    DISCONNECTS,
    DISPATCH_SENT,
    DURATION,
    FAULTS,
    FIRST_TOKEN,
    IN_FLIGHT,
    LOG_DROPPED,
    MALFORMED,
    OVERHEAD,
    PER_TOKEN,
    RELOADS,
    REQUESTS,
    RESENT,
    STREAMS,
    TOKENS,
    UP,
    UPSTREAM_SENT,
    codes,
)
from grafana.panels import Dashboard, Look, Panel, Query, Row, Variable
from grafana.queries import ZERO, difference, increase, quantile, rate, select, share, total

FAULT_COLORS: Final = {"client": "blue", "policy": "purple", "upstream": "orange", "proxy": "red"}
HEALTH: Final = {"0": ("down", "red"), "1": ("up", "green")}
BREAKERS: Final = {"0": ("closed", "green"), "1": ("open", "red")}
QUANTILES: Final = ((0.5, "p50"), (0.9, "p90"), (0.99, "p99"))

FAILED: Final = f'code=~"{codes("upstream", "proxy")}"'
"""Calls that failed and not by their client's fault."""

NO_ANSWER: Final = 'outcome=~"upstream_.+"'
"""Attempts that failed by the upstream's fault."""

ASKED: Final = 'upstream!=""'
"""Calls for which an upstream was asked."""

KEPT: Final = 'result=~"hit|similar|shared"'
"""Calls that the cache answered."""

MORE_ATTEMPTS: Final = f"clamp_min({rate(ATTEMPTS)} - ({rate(REQUESTS, ASKED)} - ({rate(CACHE, KEPT)}{ZERO})), 0)"
"""Attempts, less one for each call that was not answered by the cache, which tells the upstream too."""

ONE_DOOR: Final = difference(total(UPSTREAM_SENT, by="upstream"), total(DISPATCH_SENT, by="upstream"))
"""Attempts that left, less those that dispatch made."""


def quantiles(histogram: str, *where: str) -> tuple[Query, ...]:
    """Median, p90 and p99 of all."""
    return tuple(Query(quantile(of, histogram, *where), name) for of, name in QUANTILES)


GLANCE: Final = Row(
    "At a glance",
    (
        Panel("stat", "Calls", "Calls that ended, per second.", (Query(rate(REQUESTS)),), Look("reqps"), 3, 4),
        Panel(
            "stat",
            "Answered",
            "Share of calls that did not fail by an upstream's or Sluice's fault, after retries and fallbacks.",
            (Query(f"1 - {share(rate(REQUESTS, FAILED), rate(REQUESTS))}"),),
            Look("percentunit", 2, steps=((None, "red"), (0.95, "orange"), (0.99, "green")), most=1),
            3,
            4,
        ),
        Panel(
            "stat",
            "First token, p95",
            "From a call's start to its first token.",
            (Query(quantile(0.95, FIRST_TOKEN)),),
            Look("s", steps=((None, "green"), (5, "orange"), (15, "red"))),
            3,
            4,
        ),
        Panel(
            "stat",
            "Overhead, p99",
            "Time inside Sluice that was not waiting for an upstream.",
            (Query(quantile(0.99, OVERHEAD)),),
            Look("s", steps=((None, "green"), (0.01, "orange"), (0.05, "red"))),
            3,
            4,
        ),
        Panel("stat", "Streams open", "Streams under way now.", (Query(total(STREAMS)),), Look(), 3, 4),
        Panel(
            "stat",
            "Cost",
            "USD in the time range shown, where the price is known.",
            (Query(increase(COST)),),
            Look("currencyUSD", 2),
            3,
            4,
        ),
        Panel(
            "stat",
            "One door",
            "Attempts that left for upstreams minus attempts that dispatch made. Anything but zero is a way around "
            "the routing table.",
            (Query(f"sum(abs({ONE_DOOR}))"),),
            Look("none", 0, steps=((None, "green"), (1, "red"))),
            3,
            4,
        ),
        Panel(
            "stat",
            "Configuration",
            "Whether config.yaml as it stands is what runs. A bad file changes nothing: the last good one stays.",
            (Query(f"min({select(CONFIG_VALID)})"),),
            Look("none", words={"0": ("bad file", "red")}, steps=((None, "red"), (1, "green"))),
            3,
            4,
        ),
    ),
)

TRAFFIC: Final = Row(
    "Traffic",
    (
        Panel(
            "timeseries",
            "Calls by route",
            "Calls that ended. No route: refused before one was chosen.",
            (Query(rate(REQUESTS, by="route"), "{{route}}"),),
            Look("reqps", stacked=True),
        ),
        Panel(
            "timeseries",
            "Calls by the upstream that answered",
            "No upstream: none was asked.",
            (Query(rate(REQUESTS, by="upstream"), "{{upstream}}"),),
            Look("reqps", stacked=True),
        ),
        Panel(
            "timeseries",
            "Calls by door",
            "Which way in they took.",
            (Query(rate(REQUESTS, by="door"), "{{door}}"),),
            Look("reqps", stacked=True),
        ),
    ),
)

ERRORS: Final = Row(
    "Errors, by whose fault",
    (
        Panel(
            "timeseries",
            "Failed calls by whose fault it was",
            "client: the call was wrong. policy: a limit of this configuration. upstream: no target gave an answer. "
            "proxy: Sluice itself; it must be empty but for draining.",
            tuple(Query(rate(REQUESTS, f'code=~"{codes(fault)}"') + ZERO, fault) for fault in FAULTS),
            Look("reqps", stacked=True, colors=FAULT_COLORS),
        ),
        Panel(
            "timeseries",
            "Failed calls by code",
            "The code that the client saw, and its status.",
            (Query(rate(REQUESTS, 'code!="ok"', by="code, status"), "{{code}} {{status}}"),),
            Look("reqps", stacked=True),
        ),
        Panel(
            "table",
            "Failed calls by upstream and model",
            "In the time range shown.",
            (Query(f"topk(20, {increase(REQUESTS, FAILED, by='upstream, model, code')} > 0)"),),
            Look("short", 0),
        ),
    ),
)

LATENCY: Final = Row(
    "Latency",
    (
        Panel(
            "timeseries",
            "Time to first token",
            "From a call's start to its first token, retries and fallbacks included.",
            quantiles(FIRST_TOKEN),
            Look("s"),
            6,
        ),
        Panel(
            "timeseries",
            "Time per output token",
            "Between the tokens of a stream, by upstream.",
            (Query(quantile(0.9, PER_TOKEN, by="upstream"), "p90 {{upstream}}"),),
            Look("s"),
            6,
        ),
        Panel(
            "timeseries",
            "Whole calls",
            "From the first byte in to the last byte out.",
            quantiles(DURATION),
            Look("s"),
            6,
        ),
        Panel(
            "timeseries",
            "Overhead of Sluice",
            "Time inside Sluice that was not waiting for an upstream.",
            quantiles(OVERHEAD),
            Look("s"),
            6,
        ),
        Panel(
            "heatmap",
            "First tokens",
            "How many came after which time.",
            (Query(rate(f"{FIRST_TOKEN}_bucket", by="le"), "{{le}}"),),
            Look("short"),
            12,
        ),
        Panel(
            "timeseries",
            "Time to first token by route",
            "The 95th percentile.",
            (Query(quantile(0.95, FIRST_TOKEN, by="route"), "{{route}}"),),
            Look("s"),
            12,
        ),
    ),
)

SPENDING: Final = Row(
    "Tokens and cost",
    (
        Panel(
            "timeseries",
            "Tokens by kind",
            "As upstreams counted them. cached is part of input, reasoning part of output.",
            (Query(rate(TOKENS, by="kind"), "{{kind}}"),),
            Look("short"),
        ),
        Panel(
            "timeseries",
            "Cost per hour",
            "USD per hour at the present pace, where the price is known.",
            (Query(f"{rate(COST, by='upstream')} * 3600", "{{upstream}}"),),
            Look("currencyUSD", stacked=True),
        ),
        Panel(
            "table",
            "Dearest models",
            "USD in the time range shown.",
            (Query(f"topk(20, {increase(COST, by='upstream, model')})"),),
            Look("currencyUSD"),
        ),
    ),
)

UPSTREAMS: Final = Row(
    "Upstreams",
    (
        Panel(
            "timeseries",
            "Attempts by outcome",
            "ok, cancelled, or the code of what went wrong.",
            (Query(rate(ATTEMPTS, by="outcome"), "{{outcome}}"),),
            Look("reqps", stacked=True, colors={"ok": "green", "cancelled": "blue"}),
        ),
        Panel(
            "timeseries",
            "Attempts that failed, by upstream",
            "Share of each upstream's attempts. Retries and fallbacks hide these from clients.",
            (
                Query(
                    f"{rate(ATTEMPTS, NO_ANSWER, by='upstream')} / {rate(ATTEMPTS, by='upstream')}",
                    "{{upstream}}",
                ),
            ),
            Look("percentunit", most=1),
        ),
        Panel(
            "timeseries",
            "Retries, fallbacks and hedges",
            "Attempts over the one that each call needs, per second. Calls that the cache answered need none.",
            (Query(MORE_ATTEMPTS, "more attempts"),),
            Look("reqps"),
        ),
        Panel(
            "state-timeline",
            "Health",
            "down: the catalogue could not be fetched, or the upstream refuses our key.",
            (Query(f"min by (upstream) ({select(UP)})", "{{upstream}}"),),
            Look("none", words=HEALTH, least=None),
        ),
        Panel(
            "state-timeline",
            "Breakers",
            "open: so many failures in a row that calls are kept away; single probes go through.",
            (Query(f"max by (upstream, model) ({select(BREAKER)})", "{{upstream}}/{{model}}"),),
            Look("none", words=BREAKERS, least=None),
        ),
        Panel(
            "timeseries",
            "Attempts under way",
            "What each upstream works on for us now.",
            (Query(total(IN_FLIGHT, by="upstream"), "{{upstream}}"),),
            Look("short", stacked=True),
        ),
    ),
)

CLIENTS: Final = Row(
    "Streams, clients, cache",
    (
        Panel("timeseries", "Streams open", "By process.", (Query(select(STREAMS), "{{instance}}"),), Look(), 6),
        Panel(
            "timeseries",
            "Clients that left",
            "How far the call was: admission, waiting for the first token, or streaming.",
            (Query(rate(DISCONNECTS, by="phase"), "{{phase}}"),),
            Look("reqps", stacked=True),
            6,
        ),
        Panel(
            "timeseries",
            "Cache",
            "Of routes with a cache: hit, similar, shared (joined a call in flight), miss, off.",
            (Query(rate(CACHE, by="result"), "{{result}}"),),
            Look("reqps", stacked=True),
            6,
        ),
        Panel(
            "timeseries",
            "Answered from the cache",
            "Share of the calls of each route that could be.",
            (
                Query(
                    f"{rate(CACHE, KEPT, by='route')} / {rate(CACHE, by='route')}",
                    "{{route}}",
                ),
            ),
            Look("percentunit", most=1),
            6,
        ),
    ),
)

ITSELF: Final = Row(
    "Sluice itself",
    (
        Panel(
            "timeseries",
            "One door, by upstream",
            "Attempts that left minus attempts that dispatch made: a flat zero, or there is a way around the "
            "routing table.",
            (Query(ONE_DOOR, "{{upstream}}"),),
            Look("none", 0, least=None),
            8,
        ),
        Panel(
            "timeseries",
            "Reloads of the configuration",
            "In the last hour. failed: the last good one stays.",
            (Query(increase(RELOADS, by="result", over="1h"), "{{result}}"),),
            Look("none", 0, colors={"failed": "red", "ok": "green"}),
            8,
        ),
        Panel(
            "timeseries",
            "Malformed events",
            "Events of a stream that were no JSON and were dropped.",
            (Query(rate(MALFORMED, by="upstream"), "{{upstream}}"),),
            Look("cps"),
            8,
        ),
        Panel(
            "timeseries",
            "Requests sent again",
            "On a new connection, since the upstream had closed the kept-alive one. They are no attempts of their own.",
            (Query(rate(RESENT, by="upstream"), "{{upstream}}"),),
            Look("reqps"),
            8,
        ),
        Panel(
            "timeseries",
            "Lines that the log lost",
            "By process: nobody reads its standard error fast enough, or nobody at all. Calls do not wait for it.",
            (Query(rate(LOG_DROPPED, by="instance"), "{{instance}}"),),
            Look("cps"),
            8,
        ),
        Panel(
            "table",
            "Versions",
            "Processes by version of Sluice and of Python.",
            (Query(f"count by (version, python) ({select(BUILD)})"),),
            Look("none", 0),
            8,
        ),
    ),
)

OVERVIEW: Final = Dashboard(
    "sluice-overview",
    "Sluice / Overview",
    "Traffic, errors by whose fault, latency, tokens and cost, upstreams, and Sluice itself.",
    (Variable("instance", f"label_values({CONFIG_VALID}, instance)", several=True),),
    (GLANCE, TRAFFIC, ERRORS, LATENCY, SPENDING, UPSTREAMS, CLIENTS, ITSELF),
)
