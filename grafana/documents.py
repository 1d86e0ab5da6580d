"""The tables of docs/operations.md that follow from the code: metrics and alerts."""

import re
from collections.abc import Iterable

from grafana.metrics import families
from grafana.rules import ALERTS


def metrics_table() -> str:
    """Every metric with its type and labels, in Markdown."""
    rows = []
    for family in families().values():
        labels = ", ".join(f"`{label}`" for label in family.label_names) or "none"
        rows.append(f"| `{family.name}` | {family.kind} | {labels} | {family.says} |")
    return _table("metric | type | labels | what it counts", 4, rows)


def alerts_table() -> str:
    """Every alert with its condition, in Markdown; each name leads to its runbook."""
    rows = (
        f"| [{alert.name}](#{alert.name.lower()}) | {alert.severity} | {alert.description} | {alert.lasting} |"
        for alert in ALERTS
    )
    return _table("alert | severity | what it means | after", 4, rows)


def filled(document: str) -> str:
    """The document with what stands between `<!-- NAME -->` and `<!-- /NAME -->` made anew."""
    for name, table in (("metrics", metrics_table()), ("alerts", alerts_table())):
        between = re.compile(rf"(?<=<!-- {name} -->\n).*?(?=<!-- /{name} -->)", re.DOTALL)
        document, found = between.subn(table.replace("\\", r"\\"), document)
        if found != 1:
            raise ValueError(f"expected one place for {name} in the document, found {found}")
    return document


def _table(head: str, columns: int, rows: Iterable[str]) -> str:
    return "\n".join((f"| {head} |", "|---" * columns + "|", *rows)) + "\n"
