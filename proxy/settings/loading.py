"""Loads config.yaml and the environment into frozen settings, or reports every problem at once."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from proxy.settings.addresses import ProviderFacts, store_beside
from proxy.settings.checks import Finding, check
from proxy.settings.environment import Environment, first_variable, read_environment
from proxy.settings.problems import ConfigError, Findings, Mark, Problem, one_of, suggestion
from proxy.settings.problems import Path as Place
from proxy.settings.schema import Settings
from proxy.settings.shaping import drop, got, original, shape
from proxy.settings.upstreams import UpstreamSettings, Variables
from proxy.settings.values import shown_key
from proxy.settings.yaml_tree import YamlError, read_yaml


def load(
    path: Path,
    environ: Mapping[str, str],
    providers: Mapping[str, ProviderFacts],
    server: Mapping[str, object] | None = None,
    further: Callable[[Settings], Iterable[Finding]] = lambda settings: (),
) -> Settings:
    """The settings in the file at `path`; a `.env` beside it is overridden by `environ`.

    `server`: options of the command line, which override the file's `server`. `further`: checks to run on settings that
    are valid otherwise. Raises ConfigError with all problems.
    """
    environment, problems = read_environment(path.parent / ".env", environ)
    try:
        tree = read_yaml(_text(path))
    except YamlError as error:
        raise ConfigError(str(path), [*problems, error.problem]) from error
    findings, data = tree.findings, {} if tree.data is None else tree.data
    if isinstance(data, dict):
        _leave_out_empty(data)
        _put_over(data, server or {}, tree.marks)
    names = list(data["upstreams"]) if isinstance(data, dict) and isinstance(data.get("upstreams"), dict) else []
    _expand(data, (), environment, findings)
    settings = shape(data, findings)
    if settings is None:
        raise ConfigError(str(path), [*problems, *findings.found.values()])
    _check_parts(settings, names, data, findings)
    settings = _resolved(settings, environment, providers, findings)
    if not problems and not findings.found:
        for place, message in further(settings):
            findings.add(place, message)
    if problems or findings.found:
        raise ConfigError(str(path), [*problems, *findings.found.values()])
    return settings.model_copy(update={"store": store_beside(settings.store, path.parent)})


def _check_parts(settings: Settings, names: list[str], data: Any, findings: Findings) -> None:
    """Adds what is wrong between the parts; access is judged only if no part of it was invalid and dropped."""
    access = (("access",), ("server",))
    access_is_whole = not any(place[:1] in access for place in findings.found)
    for place, message in check(settings, names):
        if place[:1] not in access or access_is_whole:
            findings.add(original(place, data), message)


def _text(path: Path) -> str:
    """The file as text; raises YamlError if it cannot be read."""
    try:
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        before = error.object[: error.start]
        line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
        raise YamlError(Problem(line, column, "", "the file is not UTF-8")) from error
    except OSError as error:
        raise YamlError(Problem(0, 0, "", f"cannot be read: {error.strerror}")) from error


def _leave_out_empty(data: dict[str, Any]) -> None:
    """Removes empty sections: one with everything commented out counts as missing."""
    for key in [key for key, value in data.items() if value is None and key != "upstreams"]:
        if key in Settings.model_fields:
            del data[key]


def _put_over(data: dict[str, Any], server: Mapping[str, object], marks: dict[Place, Mark]) -> None:
    """Overrides the file with the options of the command line; line 0 marks values that are not from the file."""
    if server and isinstance(data.setdefault("server", {}), dict):
        data["server"].update(server)
        marks.update({("server", key): Mark(0, 0, "text", str(value)) for key, value in server.items()})


def _expand(data: Any, place: Place, environment: Environment, findings: Findings) -> None:
    """Replaces variables in nested dicts and lists; a value for which that fails is a finding and is removed."""
    items = list(data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ())
    for key, value in items:
        if not isinstance(value, str):
            _expand(value, (*place, key), environment, findings)
            continue
        try:
            data[key] = environment.expand(value)
        except ValueError as error:
            findings.add((*place, key), str(error))
            drop(data, (key,))


def _resolved(
    settings: Settings, environment: Environment, providers: Mapping[str, ProviderFacts], findings: Findings
) -> Settings:
    """The settings with every upstream resolved: full address, key, whether it is live."""
    upstreams = {}
    for name, upstream in settings.upstreams.items():
        place: Place = ("upstreams", name)
        facts = providers.get(upstream.provider)
        if facts is None:
            at = (*place, "provider")
            hint = suggestion(upstream.provider, providers)
            findings.add(at, f"{one_of(sorted(providers))}, {got(at, findings.mark(at))}{hint}")
            continue
        try:
            variables = _variables(place, upstream, facts, environment, findings)
        except ValueError as error:
            findings.add((*place, "api_key"), str(error))
            continue
        try:
            upstreams[name] = upstream.resolved(facts, variables)
        except ValueError as error:
            findings.add((*place, "base_url"), str(error))
    return settings.model_copy(update={"upstreams": upstreams})


def _variables(
    place: Place, upstream: UpstreamSettings, facts: ProviderFacts, environment: Environment, findings: Findings
) -> Variables:
    """The variables in the values of an upstream. Raises ValueError if its usual key variable holds an invalid key."""
    written = {
        key: findings.marks[(*place, key)].written
        for key in UpstreamSettings.model_fields
        if (*place, key) in findings.marks
    }
    named = {key: variable for key, text in written.items() if (variable := first_variable(text))}
    if not facts.key_variable or "api_key" in upstream.model_fields_set:
        return Variables(named)
    usual = environment.value(facts.key_variable) or ""
    try:
        return Variables(named, shown_key(usual))
    except ValueError as error:
        raise ValueError(f"{error} in {facts.key_variable}") from None
