"""Every query of every panel, variable and rule gives data, asked of a real Prometheus that scrapes a real Sluice."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from grafana.metrics import BUILD, codes, families
from grafana.overview import MORE_ATTEMPTS, ONE_DOOR
from grafana.queries import ZERO
from grafana.rules import ALERTS, RECORDINGS
from tests.grafana.prometheus import ROOT, promtool
from tests.grafana.traffic import Observed, observed
from tests.waiting import wait_for

EMPTY = {
    f'code=~"{codes("proxy")}"': "a Sluice that is well has no errors of its own",
    "proxy_internal": "the same",
}
"""Parts of queries that have no data here, and why. One that has data after all must leave this table."""

DASHBOARDS = [json.loads(path.read_text()) for path in sorted((ROOT / "grafana/dashboards").glob("*.json"))]
PANELS = [
    pytest.param(target["expr"], id=f"{dashboard['uid']} {panel['title']} {target['refId']}")
    for dashboard in DASHBOARDS
    for panel in dashboard["panels"]
    for target in panel.get("targets", ())
]
VARIABLES = [
    pytest.param(variable["query"]["query"], id=f"{dashboard['uid']} {variable['name']}")
    for dashboard in DASHBOARDS
    for variable in dashboard["templating"]["list"]
    if variable["type"] == "query"
]
SUBSTITUTES = {"$__rate_interval": "30s", "$__range": "1h", "$instance": ".*", '="$upstream"': '=~".+"'}


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    with observed(tmp_path_factory.mktemp("prometheus")) as found:
        yield found


def substituted(expr: str) -> str:
    """The query as Grafana sends it, without the zero that stands in where nothing was counted."""
    for variable, value in SUBSTITUTES.items():
        expr = expr.replace(variable, value)
    assert "$" not in expr, "a variable that this test does not know"
    return expr.replace(ZERO, "")


def check(seen: Observed, expr: str) -> None:
    if any(part in expr for part in EMPTY):
        assert not seen.prometheus.query(substituted(expr)), "this has data now: take it out of EMPTY"
    else:
        wait_for(lambda: seen.prometheus.query(substituted(expr)))  # none is there while a scrape is late


@pytest.mark.parametrize("expr", PANELS)
def test_each_panels_query_gives_data(seen: Observed, expr: str) -> None:
    check(seen, expr)


@pytest.mark.parametrize("query", VARIABLES)
def test_each_variable_has_values(seen: Observed, query: str) -> None:
    match = re.fullmatch(r"label_values\((\w+), (\w+)\)", query)
    assert match
    assert seen.prometheus.get(f"label/{match[2]}/values", **{"match[]": match[1]})


@pytest.mark.parametrize("record", sorted({recording.record for recording in RECORDINGS}))
def test_each_recorded_series_is_there(seen: Observed, record: str) -> None:
    assert seen.prometheus.query(record)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: str(alert.name))
def test_what_each_alert_looks_at_is_there(seen: Observed, alert: Any) -> None:
    check(seen, alert.value)


def test_the_rules_run_without_fault_and_see_what_is_wrong(seen: Observed) -> None:
    rules = [rule for group in seen.prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert {rule["health"] for rule in rules} == {"ok"}
    assert len(rules) == len(RECORDINGS) + len(ALERTS)
    alarming = {rule["name"] for rule in rules if rule["type"] == "alerting" and rule["state"] != "inactive"}
    assert {"SluiceUpstreamDown", "SluiceUpstreamFailing", "SluiceUpstreamAuthFailed", "SluiceBreakerOpen"} <= alarming
    assert not alarming & {"SluiceDown", "SluiceInstanceDown", "SluiceOneDoorBroken", "SluiceConfigInvalid"}


def test_answers_of_the_cache_do_not_hide_retries(tmp_path: Path) -> None:
    """Per second: three attempts for two calls, and five calls that the cache answered."""
    series = {
        "sluice_attempts_total{upstream='east'}": "0+90x60",
        "sluice_requests_total{upstream='east'}": "0+210x60",
        "sluice_cache_total{result='miss'}": "0+60x60",
        "sluice_cache_total{result='hit'}": "0+150x60",
    }
    query = substituted(MORE_ATTEMPTS).replace("30s", "5m")
    trial = {
        "interval": "30s",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {"expr": f"round({query})", "eval_time": "20m", "exp_samples": [{"labels": "{}", "value": 1}]}
        ],
    }
    file = tmp_path / "query.yml"
    file.write_text(yaml.safe_dump({"tests": [trial]}))
    promtool("test", "rules", file)


def test_what_left_is_what_dispatch_sent(seen: Observed) -> None:
    differences = seen.prometheus.query(substituted(ONE_DOOR))
    assert {labels["upstream"] for labels, _ in differences} == {"east", "west", "tight", "openrouter", "gone"}
    assert {value for _, value in differences} == {0.0}


def test_metrics_are_there_by_the_names_that_queries_use(seen: Observed) -> None:
    known = {family.name for family in families().values()}
    live = set(seen.prometheus.get("label/__name__/values"))
    scraped = {re.sub(r"_(bucket|sum|count)$", "", name) for name in live if re.match("sluice_", name)}
    assert scraped <= known
    assert BUILD in scraped and len(scraped) > 15
