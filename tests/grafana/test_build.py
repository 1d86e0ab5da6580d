"""Dashboards, rules and tables are as the code would write them, and such that Grafana takes them."""

import json
import re
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import pytest
import yaml

from grafana.build import stale
from grafana.metrics import FAULTS, codes, families, fault
from grafana.panels import COLUMNS, OPTIONS
from proxy.errors import STATUS
from tests.grafana.prometheus import ROOT

DASHBOARDS = [
    pytest.param(json.loads(path.read_text()), id=path.stem)
    for path in sorted((ROOT / "grafana/dashboards").glob("*.json"))
]
FROM_PROMETHEUS = {"instance", "job", "le"}
dashboards = pytest.mark.parametrize("dashboard", DASHBOARDS)


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def targets(dashboard: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Expressions and what their series are called."""
    for panel in panels(dashboard):
        for target in panel["targets"]:
            yield target["expr"], target["legendFormat"]


def test_nothing_is_out_of_date() -> None:
    assert not stale(), "python -m grafana.build"


def test_every_code_is_somebodys_fault_and_no_code_is_two_peoples() -> None:
    for code in STATUS:
        assert [name for name in FAULTS if re.fullmatch(codes(name), code)] == [fault(code)]
    assert fault("model_not_found") == "client" and fault("upstream_error") == "upstream"
    assert not re.fullmatch(codes(*FAULTS), "ok")


@dashboards
def test_the_head_is_that_of_a_provisioned_dashboard(dashboard: dict[str, Any]) -> None:
    assert dashboard["id"] is None and re.fullmatch(r"[a-z-]{1,40}", dashboard["uid"])
    assert dashboard["schemaVersion"] >= 39 and dashboard["title"] and "__inputs" not in dashboard
    first, *others = dashboard["templating"]["list"]
    assert (first["name"], first["type"], first["query"]) == ("datasource", "datasource", "prometheus")
    assert all(variable["datasource"]["uid"] == "${datasource}" for variable in others)


@dashboards
def test_panels_stand_side_by_side_and_have_what_their_kind_needs(dashboard: dict[str, Any]) -> None:
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in panels(dashboard):
        assert panel["type"] in OPTIONS and panel["title"] and panel["description"].endswith(".")
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        refs = [target["refId"] for target in panel["targets"]]
        assert refs and len(set(refs)) == len(refs)
        steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
        values = [step["value"] for step in steps]
        assert values[0] is None and values[1:] == sorted(values[1:])
    for one, other in combinations((panel["gridPos"] for panel in dashboard["panels"]), 2):
        assert apart(one, other)
    assert all(place["x"] + place["w"] <= COLUMNS for place in (panel["gridPos"] for panel in dashboard["panels"]))


def apart(one: dict[str, int], other: dict[str, int]) -> bool:
    return any(
        first[axis] + first[size] <= second[axis]
        for first, second in ((one, other), (other, one))
        for axis, size in (("x", "w"), ("y", "h"))
    )


@dashboards
def test_queries_name_only_labels_that_their_metrics_have(dashboard: dict[str, Any]) -> None:
    for expr, legend in targets(dashboard):
        known = set(FROM_PROMETHEUS)
        for name, family in families().items():
            if name in expr:
                known |= set(family.label_names)
        grouped = {label for by in re.findall(r"by \(([^)]*)\)", expr) for label in by.split(", ")}
        chosen = set(re.findall(r'(\w+)(?:=~|=|!=)"', expr))
        shown = set(re.findall(r"{{(\w+)}}", legend))
        assert grouped | chosen | shown <= known, expr
        assert shown <= (grouped or known), f"{legend} names what {expr} has summed away"


def test_metrics_are_all_shown_but_for_those_of_other_pages() -> None:
    shown = "".join(expr for dashboard in DASHBOARDS for expr, _ in targets(dashboard.values[0]))  # type: ignore[arg-type]
    assert [name for name in families() if name not in shown] == ["sluice_vapi_events_total"]


def test_provisioning_agrees_with_compose_and_with_the_dashboards() -> None:
    provisioning = ROOT / "grafana/provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text())["datasources"]
    (provider,) = yaml.safe_load((provisioning / "dashboards/sluice.yaml").read_text())["providers"]
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    assert source["uid"] == "prometheus" and source["url"] == "http://prometheus:9090"
    mounts = dict(mount.split(":")[:2] for mount in services["grafana"]["volumes"])
    assert mounts["./grafana/dashboards"] == provider["options"]["path"]
    assert mounts["./grafana/provisioning"] == "/etc/grafana/provisioning"
