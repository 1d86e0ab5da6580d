"""Converts LiteLLM's config.yaml (docs.litellm.ai, "Config.yaml" and "All settings")."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml

from proxy.importing.findings import Findings
from proxy.importing.litellm_models import Models
from proxy.importing.litellm_routes import Groups, routing_tests
from proxy.importing.litellm_settings import Sections, environment
from proxy.importing.variables import Variables

_SECTIONS: Final = ("litellm_settings", "router_settings", "general_settings")  # the router's word comes after
_PORT: Final = 4000  # LiteLLM's default


class Dumper(yaml.SafeDumper):
    """YAML without anchors: equal values are written out, as people do."""

    def ignore_aliases(self, data: object) -> bool:
        return True

    def represent_float(self, data: float) -> yaml.ScalarNode:
        """Plain decimals with at most twelve digits: config.yaml does not accept 1e-05."""
        written = f"{data:.12f}".rstrip("0")
        return self.represent_scalar("tag:yaml.org,2002:float", written + "0" * written.endswith("."))


Dumper.add_representer(float, Dumper.represent_float)
Dumper.add_implicit_resolver(  # strings that we would read as numbers are quoted, such as `1e3`
    "tag:yaml.org,2002:float", re.compile(r"[-+]?([0-9]+\.?|[0-9]*\.[0-9]+)([eE][-+]?[0-9]+)?$"), list("-+.0123456789")
)


_MOST_ALIASED = 20_000  # values beyond one per character


class BadInput(Exception):
    """The input is no LiteLLM configuration. The text never quotes it."""


@dataclass(frozen=True, slots=True)
class Imported:
    """Our configuration as YAML, "" if nothing could be converted, and the findings."""

    text: str
    findings: Findings


def convert(text: str) -> Imported:
    """LiteLLM's configuration as ours. Raises BadInput."""
    given = _read(text)
    findings = Findings()
    variables = Variables(findings, set(re.findall(r"os\.environ/([A-Za-z_][A-Za-z0-9_]*)", text)))
    models = Models(findings, variables)
    models.read(given["model_list"])
    sections = Sections(findings, variables, Groups(findings, models.deployments))
    for section in _SECTIONS:
        sections.read(section, given.get(section))
    environment(findings, given.get("environment_variables"))
    for key in given.keys() - {*_SECTIONS, "model_list", "environment_variables"}:
        findings.unsupported(str(key))
    if not models.deployments:
        return Imported("", findings)
    return Imported(_written(_document(models, sections), findings), findings)


def _read(text: str) -> Mapping[str, Any]:
    try:
        given = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise BadInput(f"{place}not valid YAML") from None
    except (yaml.YAMLError, RecursionError, ValueError):
        raise BadInput("not valid YAML") from None
    if not isinstance(given, dict):
        raise BadInput("expected a mapping")
    _bound(given, len(text) + _MOST_ALIASED)
    if not isinstance(given.get("model_list"), list):
        raise BadInput("expected LiteLLM's configuration with a model_list, and there is none")
    return given


def _bound(given: Any, most: int) -> None:
    """Refuses aliases (nested, or self-referential) that expand to more values than a text of this size can hold."""
    left, seen = [given], 0
    while left:
        value = left.pop()
        seen += 1
        if seen > most:
            raise BadInput("too many aliases")
        left += value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _document(models: Models, sections: Sections) -> dict[str, Any]:
    """config.yaml as a mapping, in the usual order."""
    cached = bool(sections.kept and "exact" in sections.kept)
    routes, default = sections.groups.routes(cached)
    if cached and sections.kept:
        for route in routes:
            route["cache"] = dict(sections.kept)
    access = sections.access or {"keys": "open"}
    found: dict[str, Any] = {
        "server": {"host": "0.0.0.0" if sections.access else "127.0.0.1", "port": _PORT},
        "access": access,
        "upstreams": models.upstreams,
        "default_upstream": default,
        "defaults": sections.defaults(),
        "routes": routes,
        "cache": sections.cache if sections.kept else {},
        "log": sections.log,
        "tests": routing_tests(routes),
    }
    return {key: value for key, value in found.items() if value}


def _written(document: Mapping[str, Any], findings: Findings) -> str:
    counts = ", ".join(f"{findings.count(verdict)} {verdict}" for verdict in ("exact", "approximate", "unsupported"))
    head = f"# Imported from LiteLLM's configuration by `sluice import litellm`: {counts}.\n"
    note = "# Without a master key anybody may call, so it listens on this machine only.\n"
    body = yaml.dump(dict(document), Dumper=Dumper, sort_keys=False, allow_unicode=True, width=120)
    return head + (note if document["access"]["keys"] == "open" else "") + body
