"""Each alert fires when it should, stays quiet when it should, and has a runbook."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from grafana.rules import ALERTS, RUNBOOKS, Alert
from tests.grafana.prometheus import ROOT, promtool

Series = dict[str, str]
FOLDER = ROOT / "grafana/prometheus"


@dataclass(frozen=True, slots=True)
class Case:
    """Series of an hour, a value a minute: such that an alert fires at the end; and such that not."""

    fires: Series
    labels: dict[str, str]
    quiet: Series


CALLS = "sluice_requests_total{job='sluice', route='gpt-', code='%s'}"
TRIES = "sluice_attempts_total{job='sluice', upstream='east', outcome='%s'}"
FIRST = "sluice_time_to_first_token_seconds_bucket{job='sluice', route='gpt-', le='%s'}"
OVERHEAD = "sluice_overhead_seconds_bucket{job='sluice', le='%s'}"
LEFT = "sluice_upstream_sent_total{job='sluice', upstream='east'}"
MADE = "sluice_dispatch_sent_total{job='sluice', upstream='east'}"
STEADY, GROWING = "1x60", "0+60x60"
JOB = {"job": "sluice"}
EAST = JOB | {"upstream": "east"}

CASES = {
    "SluiceDown": Case({"up{job='sluice', instance='a'}": "0x60"}, {}, {"up{job='sluice', instance='a'}": STEADY}),
    "SluiceInstanceDown": Case(
        {"up{job='sluice', instance='a'}": "0x60", "up{job='sluice', instance='b'}": STEADY},
        JOB | {"instance": "a", "__name__": "up"},
        {"up{job='sluice', instance='a'}": STEADY},
    ),
    "SluiceCallsFailing": Case(
        {CALLS % "ok": "0+90x60", CALLS % "upstream_timeout_idle": "0+10x60"},
        JOB,
        {CALLS % "ok": "0+98x60", CALLS % "upstream_timeout_idle": "0+2x60", CALLS % "model_not_found": "0+50x60"},
    ),
    "SluiceInternalErrors": Case(
        {CALLS % "proxy_internal": "0+1x60"}, JOB | {"code": "proxy_internal"}, {CALLS % "proxy_draining": "0+1x60"}
    ),
    "SluiceOneDoorBroken": Case(
        {LEFT: "0+2x60", MADE: "0+1x60"}, EAST, {LEFT: GROWING, MADE: GROWING}
    ),
    "SluiceConfigInvalid": Case(
        {"sluice_config_valid{job='sluice', instance='a'}": "0x60"},
        JOB | {"instance": "a"},
        {"sluice_config_valid{job='sluice', instance='a'}": STEADY},
    ),
    "SluiceUpstreamDown": Case(
        {"sluice_upstream_up{job='sluice', upstream='east'}": "0x60"},
        EAST,
        {"sluice_upstream_up{job='sluice', upstream='east'}": STEADY},
    ),
    "SluiceUpstreamFailing": Case(
        {TRIES % "ok": "0+1x60", TRIES % "upstream_error": "0+1x60"},
        EAST,
        {TRIES % "ok": "0+9x60", TRIES % "upstream_error": "0+1x60", TRIES % "client_invalid_request": "0+9x60"},
    ),
    "SluiceUpstreamAuthFailed": Case(
        {TRIES % "upstream_auth_failed": "0+1x60"}, EAST, {TRIES % "upstream_error": "0+1x60"}
    ),
    "SluiceBreakerOpen": Case(
        {"sluice_breaker_open{job='sluice', upstream='east', model='gpt-4o'}": STEADY},
        EAST | {"model": "gpt-4o"},
        {"sluice_breaker_open{job='sluice', upstream='east', model='gpt-4o'}": "0x60"},
    ),
    "SluiceSlowFirstToken": Case(
        {FIRST % "15.0": "0+90x60", FIRST % "20.0": "0+100x60", FIRST % "+Inf": "0+100x60"},
        JOB | {"route": "gpt-"},
        {FIRST % "15.0": "0+96x60", FIRST % "20.0": "0+100x60", FIRST % "+Inf": "0+100x60"},
    ),
    "SluiceSlowItself": Case(
        {OVERHEAD % "0.05": "0+90x60", OVERHEAD % "0.1": "0+100x60", OVERHEAD % "+Inf": "0+100x60"},
        JOB,
        {OVERHEAD % "0.05": "0+100x60", OVERHEAD % "0.1": "0+100x60", OVERHEAD % "+Inf": "0+100x60"},
    ),
    "SluiceCallsRefused": Case(
        {CALLS % "policy_concurrency": GROWING}, JOB | {"route": "gpt-"}, {CALLS % "upstream_rate_limited": GROWING}
    ),
    "SluiceLogDropped": Case(
        {"sluice_log_lines_dropped_total{job='sluice', instance='a'}": GROWING},
        JOB | {"instance": "a"},
        {"sluice_log_lines_dropped_total{job='sluice', instance='a'}": "7x60"},
    ),
    "SluiceVersionsMixed": Case(
        {"sluice_build_info{job='sluice', version='1'}": STEADY,
         "sluice_build_info{job='sluice', version='2'}": STEADY},
        JOB,
        {"sluice_build_info{job='sluice', version='1', instance='a'}": STEADY,
         "sluice_build_info{job='sluice', version='1', instance='b'}": STEADY},
    ),
}  # fmt: skip


def tried(alert: Alert, series: Series, expected: list[dict[str, Any]]) -> dict[str, Any]:
    """One case as promtool reads it."""
    return {
        "name": alert.name,
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [{"eval_time": "1h", "alertname": alert.name, "exp_alerts": expected}],
    }


def firing(alert: Alert, labels: dict[str, str]) -> dict[str, Any]:
    """The alert as it fires: with its labels in its texts."""
    labels = {name: value for name, value in labels.items() if name != "__name__"}
    said = {}
    for key, text in alert.json()["annotations"].items():
        said[key] = re.sub(r"{{ \$labels\.(\w+) }}", lambda match: labels[match[1]], text)
    return {"exp_labels": labels | {"severity": alert.severity}, "exp_annotations": said}


def test_every_alert_is_tried() -> None:
    assert list(CASES) == [alert.name for alert in ALERTS]


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: str(alert.name))
def test_an_alert_fires_when_it_should_and_only_then(alert: Alert, tmp_path: Path) -> None:
    case = CASES[alert.name]
    file = tmp_path / "alert.yml"
    trials = {
        "rule_files": [str(FOLDER / "rules.yml"), str(FOLDER / "alerts.yml")],
        "evaluation_interval": "1m",
        "tests": [
            tried(alert, case.fires, [firing(alert, case.labels)]),
            tried(alert, case.quiet, []),
        ],
    }
    file.write_text(yaml.safe_dump(trials))
    promtool("test", "rules", file)


@pytest.mark.parametrize(
    ("name", "series", "labels"),
    [
        ("SluiceInternalErrors", CALLS % "proxy_internal", JOB | {"code": "proxy_internal"}),
        ("SluiceUpstreamAuthFailed", TRIES % "upstream_auth_failed", EAST),
        ("SluiceOneDoorBroken", LEFT, EAST),
        ("SluiceOneDoorBroken", MADE, EAST),
    ],
)
def test_the_first_series_of_its_kind_fires_too(name: str, series: str, labels: dict[str, str], tmp_path: Path) -> None:
    alert = next(each for each in ALERTS if each.name == name)
    process = {"up{job='sluice', instance='a'}": "1x80"}
    series = series.replace("job='sluice'", "job='sluice', instance='a'")
    fresh = tried(alert, process | {series: "_x57 1x20"}, [firing(alert, labels)])
    # It had counted that when Prometheus last saw it, before there was nothing to be seen of it for a while.
    old = tried(alert, {series: "1x30 _x26 1x20", "up{job='sluice', instance='a'}": "1x30 0x26 1x20"}, [])
    file = tmp_path / "alert.yml"
    trials = [fresh] if name == "SluiceOneDoorBroken" else [fresh, old]
    file.write_text(yaml.safe_dump({"rule_files": [str(FOLDER / "alerts.yml")], "tests": trials}))
    promtool("test", "rules", file)


def test_an_absent_job_is_down_too(tmp_path: Path) -> None:
    alert = ALERTS[0]
    file = tmp_path / "alert.yml"
    absent = tried(alert, {"up{job='other'}": STEADY}, [firing(alert, {})])
    file.write_text(yaml.safe_dump({"rule_files": [str(FOLDER / "alerts.yml")], "tests": [absent]}))
    promtool("test", "rules", file)


def test_promtool_finds_no_fault() -> None:
    promtool("check", "config", FOLDER / "prometheus.yml")
    promtool("check", "rules", "--lint-fatal", FOLDER / "rules.yml", FOLDER / "alerts.yml")


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: str(alert.name))
def test_an_alert_has_a_runbook(alert: Alert) -> None:
    document = (ROOT / RUNBOOKS).read_text()
    assert alert.json()["annotations"]["runbook"] == f"{RUNBOOKS}#{alert.name.lower()}"
    heading = re.search(rf"^### {alert.name}\n(.+)", document, re.MULTILINE)
    assert heading and len(heading[1]) > 40
