"""Writes dashboards, rules and the tables of docs/operations.md: `python -m grafana.build`; `--check` only compares."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from grafana.documents import filled
from grafana.overview import OVERVIEW
from grafana.rules import alerting_rules, recording_rules
from grafana.upstreams import ONE

ROOT: Final = Path(__file__).parent.parent
NOTE: Final = "# Written by `python -m grafana.build` from grafana/rules.py; do not edit by hand.\n"


def files() -> Mapping[Path, str]:
    """Every generated file and its text."""
    here, prometheus = ROOT / "grafana", ROOT / "grafana/prometheus"
    document = ROOT / "docs/operations.md"
    resource = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "sluice"},
        "spec": {"groups": [*recording_rules()["groups"], *alerting_rules()["groups"]]},
    }
    return {
        **{here / f"dashboards/{made.uid}.json": _json(made.json()) for made in (OVERVIEW, ONE)},
        prometheus / "rules.yml": NOTE + _yaml(recording_rules()),
        prometheus / "alerts.yml": NOTE + _yaml(alerting_rules()),
        ROOT / "deploy/kubernetes/monitoring/rules.yaml": NOTE + _yaml(resource),
        document: filled(document.read_text("utf-8")),
    }


def stale() -> list[Path]:
    """The files that are not as the code would write them."""
    return [path for path, text in files().items() if not path.is_file() or path.read_text("utf-8") != text]


def main(argv: list[str]) -> int:
    """0, or with `--check` 1 where a file is out of date."""
    if "--check" in argv:
        for path in (found := stale()):
            print(f"{path.relative_to(ROOT)} is out of date: python -m grafana.build", file=sys.stderr)
        return 1 if found else 0
    for path, text in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return 0


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _yaml(value: Any) -> str:
    text: str = yaml.safe_dump(value, sort_keys=False, width=1000, allow_unicode=True)
    return text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
