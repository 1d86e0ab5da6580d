"""Grafana's panels as small frozen values, and how they become the JSON that Grafana loads."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

SCHEMA_VERSION: Final = 41  # Grafana 12; older ones read what they know, newer ones migrate it
COLUMNS: Final = 24
DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Query:
    """One expression and what its series are called: `{{upstream}}` is the value of a label."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Look:
    """How values are shown. `steps`: from which value on which colour, the first from below."""

    unit: str = "short"
    decimals: int | None = None
    stacked: bool = False
    steps: tuple[tuple[float | None, str], ...] = ((None, "green"),)
    words: Mapping[str, tuple[str, str]] = field(default_factory=dict)  # value -> word and colour
    colors: Mapping[str, str] = field(default_factory=dict)  # name of a series -> colour
    most: float | None = None  # the end of the axis
    least: float | None = 0


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel. `kind` is Grafana's: timeseries, stat, state-timeline, table, heatmap. `width` of 24 columns."""

    kind: str
    title: str
    says: str
    queries: tuple[Query, ...]
    look: Look = Look()
    width: int = 8
    height: int = 8


@dataclass(frozen=True, slots=True)
class Row:
    """A heading and the panels under it, from left to right."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Variable:
    """A choice at the head of a dashboard: the values of a label. `several`: any number of them, all at first."""

    name: str
    query: str
    several: bool = False


@dataclass(frozen=True, slots=True)
class Dashboard:
    """A whole page."""

    uid: str
    title: str
    says: str
    variables: tuple[Variable, ...]
    rows: tuple[Row, ...]

    def json(self) -> Json:
        """As Grafana loads it from a file."""
        return {
            "id": None,
            "uid": self.uid,
            "title": self.title,
            "description": self.says,
            "tags": ["sluice"],
            "schemaVersion": SCHEMA_VERSION,
            "version": 1,
            "editable": True,
            "graphTooltip": 1,
            "refresh": "10s",
            "time": {"from": "now-1h", "to": "now"},
            "timepicker": {},
            "timezone": "browser",
            "annotations": {"list": []},
            "links": [_link()],
            "templating": {"list": [_datasource(), *(_variable(variable) for variable in self.variables)]},
            "panels": list(_laid_out(self.rows)),
        }


def _link() -> Json:
    """To the other dashboards of Sluice, taking the time range along."""
    return {
        "type": "dashboards",
        "title": "Sluice",
        "tags": ["sluice"],
        "asDropdown": False,
        "includeVars": False,
        "keepTime": True,
        "targetBlank": False,
        "icon": "external link",
        "tooltip": "",
        "url": "",
    }


def _datasource() -> Json:
    return {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "regex": "",
        "refresh": 1,
        "hide": 0,
        "multi": False,
        "includeAll": False,
        "options": [],
        "current": {"text": "Prometheus", "value": "prometheus"},
    }


def _variable(variable: Variable) -> Json:
    made: Json = {
        "name": variable.name,
        "label": variable.name.capitalize(),
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": variable.query, "refId": "variable"},
        "refresh": 2,
        "sort": 1,
        "hide": 0,
        "multi": variable.several,
        "includeAll": variable.several,
        "options": [],
    }
    if variable.several:
        made |= {"allValue": ".*", "current": {"text": ["All"], "value": ["$__all"]}}
    return made


def _laid_out(rows: Iterable[Row]) -> Iterable[Json]:
    """Headings and panels with their places: from left to right, onto the next line where the width is used up."""
    number, y = 0, 0
    for row in rows:
        number += 1
        place = {"x": 0, "y": y, "w": COLUMNS, "h": 1}
        yield {"id": number, "type": "row", "title": row.title, "collapsed": False, "panels": [], "gridPos": place}
        x, y, tallest = 0, y + 1, 0
        for panel in row.panels:
            if x + panel.width > COLUMNS:
                x, y, tallest = 0, y + tallest, 0
            number += 1
            place = {"x": x, "y": y, "w": panel.width, "h": panel.height}
            yield {"id": number, "gridPos": place} | _panel(panel)
            x, tallest = x + panel.width, max(tallest, panel.height)
        y += tallest


def _panel(panel: Panel) -> Json:
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.says,
        "datasource": DATASOURCE,
        "targets": [_target(panel.kind, query, at) for at, query in enumerate(panel.queries)],
        "fieldConfig": {"defaults": _defaults(panel.kind, panel.look), "overrides": _overrides(panel.look)},
        "options": OPTIONS[panel.kind],
        "transformations": TRANSFORMATIONS if panel.kind == "table" else [],
    }


def _target(kind: str, query: Query, at: int) -> Json:
    return {
        "refId": chr(ord("A") + at),
        "datasource": DATASOURCE,
        "editorMode": "code",
        "expr": query.expr,
        "legendFormat": query.legend or "__auto",
        "range": kind != "table",
        "instant": kind == "table",
        "format": kind if kind in ("table", "heatmap") else "time_series",
    }


def _defaults(kind: str, look: Look) -> Json:
    steps = [{"value": value, "color": color} for value, color in look.steps]
    made: Json = {
        "unit": look.unit,
        "color": {"mode": "palette-classic" if kind == "timeseries" else "thresholds"},
        "thresholds": {"mode": "absolute", "steps": steps},
        "mappings": _mappings(look.words),
        "custom": _custom(kind, look.stacked),
    }
    bounds = {"decimals": look.decimals, "min": look.least, "max": look.most}
    return made | {key: bound for key, bound in bounds.items() if bound is not None}


def _custom(kind: str, stacked: bool) -> Json:
    if kind == "timeseries":
        return {
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 40 if stacked else 8,
            "showPoints": "never",
            "spanNulls": False,
            "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
        }
    return {"fillOpacity": 80, "lineWidth": 0} if kind == "state-timeline" else {}


def _mappings(words: Mapping[str, tuple[str, str]]) -> list[Json]:
    if not words:
        return []
    options = {
        value: {"text": text, "color": color, "index": at} for at, (value, (text, color)) in enumerate(words.items())
    }
    return [{"type": "value", "options": options}]


def _overrides(look: Look) -> list[Json]:
    return [
        {
            "matcher": {"id": "byName", "options": name},
            "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": color}}],
        }
        for name, color in look.colors.items()
    ]


_LEGEND: Final = {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []}
_READ: Final = {"calcs": ["lastNotNull"], "fields": "", "values": False}
_TOOLTIP: Final = {"mode": "multi", "sort": "desc"}

OPTIONS: Final[Mapping[str, Json]] = {
    "timeseries": {
        "legend": _LEGEND | {"displayMode": "table", "calcs": ["mean", "max"]},
        "tooltip": _TOOLTIP,
    },
    "stat": {
        "reduceOptions": _READ,
        "colorMode": "value",
        "graphMode": "area",
        "justifyMode": "auto",
        "orientation": "auto",
        "textMode": "auto",
        "wideLayout": True,
        "showPercentChange": False,
        "percentChangeColorMode": "standard",
    },
    "state-timeline": {
        "mergeValues": True,
        "showValue": "never",
        "alignValue": "left",
        "rowHeight": 0.8,
        "legend": _LEGEND,
        "tooltip": _TOOLTIP | {"mode": "single", "sort": "none"},
    },
    "table": {"showHeader": True, "cellHeight": "sm", "frameIndex": 0},
    "heatmap": {
        "calculate": False,
        "color": {"mode": "scheme", "scheme": "Blues", "steps": 32, "fill": "blue", "exponent": 0.5, "reverse": False},
        "cellGap": 1,
        "filterValues": {"le": 1e-9},
        "rowsFrame": {"layout": "auto"},
        "showValue": "never",
        "yAxis": {"axisPlacement": "left", "unit": "s"},
        "legend": {"show": True},
        "tooltip": {"mode": "single", "yHistogram": False, "showColorScale": False},
        "exemplars": {"color": "rgba(255,0,255,0.7)"},
    },
}
"""What belongs to each kind of panel, whatever it shows."""

TRANSFORMATIONS: Final = [
    {"id": "merge", "options": {}},
    {"id": "organize", "options": {"excludeByName": {"Time": True}, "indexByName": {}, "renameByName": {}}},
]
"""Of tables: one line for each set of labels, without the time."""
