"""The dashboard of one upstream, chosen at its head: is it well, how fast, how many tokens, what does it cost."""

from typing import Final

from grafana.metrics import (
    ATTEMPTS,
    BREAKER,
    CONFIG_VALID,
    COST,
    DISPATCH_SENT,
    DURATION,
    FIRST_TOKEN,
    IN_FLIGHT,
    MALFORMED,
    PER_TOKEN,
    REQUESTS,
    TOKENS,
    UP,
    UPSTREAM_SENT,
)
from grafana.overview import BREAKERS, HEALTH, NO_ANSWER, quantiles
from grafana.panels import Dashboard, Look, Panel, Query, Row, Variable
from grafana.queries import ONE_UPSTREAM, difference, increase, quantile, rate, select, share, total

NOW: Final = Row(
    "Now",
    (
        Panel(
            "stat",
            "Health",
            "down: its catalogue could not be fetched, or it refuses our key.",
            (Query(f"min({select(UP, ONE_UPSTREAM)})"),),
            Look("none", words=HEALTH, steps=((None, "red"), (1, "green"))),
            4,
            4,
        ),
        Panel(
            "stat",
            "Attempts that failed",
            "Share of all; retries and fallbacks hide these from clients.",
            (Query(share(rate(ATTEMPTS, ONE_UPSTREAM, NO_ANSWER), rate(ATTEMPTS, ONE_UPSTREAM))),),
            Look("percentunit", 2, steps=((None, "green"), (0.01, "orange"), (0.1, "red")), most=1),
            4,
            4,
        ),
        Panel(
            "stat",
            "Under way",
            "Attempts it works on for us now.",
            (Query(total(IN_FLIGHT, ONE_UPSTREAM)),),
            Look(),
            4,
            4,
        ),
        Panel(
            "stat",
            "First token, p95",
            "From a call's start to its first token.",
            (Query(quantile(0.95, FIRST_TOKEN, ONE_UPSTREAM)),),
            Look("s", steps=((None, "green"), (5, "orange"), (15, "red"))),
            4,
            4,
        ),
        Panel(
            "stat",
            "Cost",
            "USD in the time range shown, where the price is known.",
            (Query(increase(COST, ONE_UPSTREAM)),),
            Look("currencyUSD", 2),
            4,
            4,
        ),
        Panel(
            "stat",
            "One door",
            "Attempts that left for it minus attempts that dispatch made: zero.",
            (Query(difference(total(UPSTREAM_SENT, ONE_UPSTREAM), total(DISPATCH_SENT, ONE_UPSTREAM))),),
            Look("none", 0, least=None, steps=((None, "red"), (0, "green"), (1, "red"))),
            4,
            4,
        ),
    ),
)

OUTCOMES: Final = Row(
    "Attempts",
    (
        Panel(
            "timeseries",
            "Attempts by outcome",
            "ok, cancelled, or the code of what went wrong.",
            (Query(rate(ATTEMPTS, ONE_UPSTREAM, by="outcome"), "{{outcome}}"),),
            Look("reqps", stacked=True, colors={"ok": "green", "cancelled": "blue"}),
            12,
        ),
        Panel(
            "timeseries",
            "Attempts by model",
            "other: a model that neither configuration nor catalogue lists.",
            (Query(rate(ATTEMPTS, ONE_UPSTREAM, by="model"), "{{model}}"),),
            Look("reqps", stacked=True),
            12,
        ),
        Panel(
            "state-timeline",
            "Breakers by model",
            "open: so many failures in a row that calls are kept away; single probes go through.",
            (Query(f"max by (model) ({select(BREAKER, ONE_UPSTREAM)})", "{{model}}"),),
            Look("none", words=BREAKERS, least=None),
            12,
        ),
        Panel(
            "timeseries",
            "Calls it answered, by route",
            "Calls whose answer, or last failure, came from here.",
            (Query(rate(REQUESTS, ONE_UPSTREAM, by="route, code"), "{{route}} {{code}}"),),
            Look("reqps", stacked=True),
            12,
        ),
    ),
)

SPEED: Final = Row(
    "Speed",
    (
        Panel(
            "timeseries",
            "Time to first token",
            "From a call's start to its first token, by model: the 90th percentile.",
            (Query(quantile(0.9, FIRST_TOKEN, ONE_UPSTREAM, by="model"), "{{model}}"),),
            Look("s"),
        ),
        Panel(
            "timeseries",
            "Time per output token",
            "Between the tokens of a stream, by model: the 90th percentile.",
            (Query(quantile(0.9, PER_TOKEN, ONE_UPSTREAM, by="model"), "{{model}}"),),
            Look("s"),
        ),
        Panel(
            "timeseries",
            "Whole calls",
            "From the first byte in to the last byte out.",
            quantiles(DURATION, ONE_UPSTREAM),
            Look("s"),
        ),
    ),
)

SPENDING: Final = Row(
    "Tokens and cost",
    (
        Panel(
            "timeseries",
            "Tokens by kind",
            "As it counted them. cached is part of input, reasoning part of output.",
            (Query(rate(TOKENS, ONE_UPSTREAM, by="kind"), "{{kind}}"),),
            Look("short"),
        ),
        Panel(
            "timeseries",
            "Output tokens by model",
            "Per second, all calls together.",
            (Query(rate(TOKENS, ONE_UPSTREAM, 'kind="output"', by="model"), "{{model}}"),),
            Look("short", stacked=True),
        ),
        Panel(
            "table",
            "Cost by model",
            "USD in the time range shown, where the price is known.",
            (Query(f"topk(20, {increase(COST, ONE_UPSTREAM, by='model')})"),),
            Look("currencyUSD"),
        ),
        Panel(
            "timeseries",
            "Malformed events",
            "Events of its streams that were no JSON and were dropped.",
            (Query(rate(MALFORMED, ONE_UPSTREAM), "malformed"),),
            Look("cps"),
        ),
    ),
)

ONE: Final = Dashboard(
    "sluice-upstreams",
    "Sluice / One upstream",
    "Health, attempts, speed, tokens and cost of the upstream chosen above.",
    (
        Variable("instance", f"label_values({CONFIG_VALID}, instance)", several=True),
        Variable("upstream", f"label_values({UP}, upstream)"),
    ),
    (NOW, OUTCOMES, SPEED, SPENDING),
)
