"""Converts LiteLLM's `router_settings`, `litellm_settings` and `general_settings` to our policies."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

from proxy.importing.findings import Findings
from proxy.importing.litellm_deployments import DROPPING
from proxy.importing.litellm_routes import Groups, entries, names_of
from proxy.importing.reading import address, count, credential, number, seconds
from proxy.importing.variables import Variables, named, plain
from proxy.shapes import list_of, object_of
from proxy.units import written_duration

Rule = Callable[["Sections", str, Any], None]

_USUAL_TTL: Final = "1h"  # if the file sets none


@dataclass(slots=True)
class Sections:
    """The content of the three sections, as parts of config.yaml."""

    findings: Findings
    variables: Variables
    groups: Groups
    access: dict[str, Any] = field(default_factory=dict)
    timeouts: dict[str, str] = field(default_factory=dict)
    retry: dict[str, Any] = field(default_factory=dict)
    breaker: dict[str, Any] = field(default_factory=dict)
    log: dict[str, Any] = field(default_factory=dict)
    cache: dict[str, Any] = field(default_factory=dict)
    kept: dict[str, Any] | None = None  # `cache` of every route

    def read(self, section: str, values: Any) -> None:
        """Converts one section; keys without a rule are unsupported."""
        for key, value in values.items() if isinstance(values, dict) else ():
            at, rule = f"{section}.{key}", RULES.get((section, key)) or RULES.get(("", str(key)))
            if rule is None or value is None:
                self.findings.unsupported(at)
            else:
                rule(self, at, value)

    def defaults(self) -> dict[str, Any]:
        """`defaults` of config.yaml."""
        parts = {"timeouts": self.timeouts, "retry": self.retry, "breaker": self.breaker}
        return {key: part for key, part in parts.items() if part}


def _timeout(sections: Sections, at: str, value: Any) -> None:
    if (seconds := _seconds(sections, at, value)) is not None:
        duration = written_duration(seconds)
        sections.timeouts |= {"first_token": duration, "whole": duration}
        sections.findings.approximate(
            at, "timeouts.whole and first_token: for a whole answer, and until the first token of a stream"
        )


def _stream_timeout(sections: Sections, at: str, value: Any) -> None:
    if (seconds := _seconds(sections, at, value)) is not None:
        sections.timeouts["first_token"] = written_duration(seconds)
        sections.findings.approximate(at, "timeouts.first_token: the time until the first token of a stream")


def _retries(sections: Sections, at: str, value: Any) -> None:
    if (retries := count(value)) is not None:
        sections.retry["attempts"] = min(100, retries + 1)
        sections.findings.approximate(at, "retry.attempts: one more, since the first attempt counts; per target")
    else:
        sections.findings.unsupported(at, "not a number of retries; left out")


def _retry_after(sections: Sections, at: str, value: Any) -> None:
    if (seconds := _seconds(sections, at, value)) is not None:
        sections.retry["backoff"] = written_duration(seconds)
        sections.findings.approximate(
            at, "retry.backoff: the wait before the second attempt; doubled before each further one"
        )


def _allowed_fails(sections: Sections, at: str, value: Any) -> None:
    if (failures := count(value)) is not None:
        sections.breaker["failures"] = failures + 1
        sections.findings.approximate(at, "breaker.failures: counted in a row, not per minute")
    else:
        sections.findings.unsupported(at, "not a number of failures; left out")


def _cooldown(sections: Sections, at: str, value: Any) -> None:
    if (seconds := _seconds(sections, at, value)) is not None:
        sections.breaker["open_for"] = written_duration(seconds)
        sections.findings.approximate(
            at, "breaker.open_for: then a single call is let through as a probe, not all at once"
        )


def _strategy(sections: Sections, at: str, value: Any) -> None:
    if value == "simple-shuffle":
        sections.findings.exact(at, "targets by weight")
    else:
        sections.findings.unsupported(at, "Sluice splits the load by weight only; without weights, equally")


def _fallbacks(sections: Sections, at: str, value: Any) -> None:
    named_groups = names_of(value)
    if "*" in named_groups:
        sections.groups.wildcard = named_groups.pop("*")
        what = "further targets of every route without fallbacks of its own, unless there are default_fallbacks"
        sections.findings.exact(f"{at}.*", what)
        _unknown(sections, f"{at}.*", {"": sections.groups.wildcard})
    sections.groups.fallbacks.update(named_groups)
    if any(name in named_groups for names in named_groups.values() for name in names):
        sections.findings.approximate(at, "further targets of the route; fallbacks of a fallback are not followed")
    else:
        sections.findings.exact(at, "further targets of the route")
    _unknown(sections, at, named_groups)
    _repeated(sections, at, value)


def _larger(sections: Sections, at: str, value: Any) -> None:
    sections.groups.larger.update(names_of(value))
    sections.findings.approximate(
        at, "further targets: asked after any failure, but after a context-length error only if their context is larger"
    )
    _unknown(sections, at, names_of(value))
    _repeated(sections, at, value)


def _usual_fallbacks(sections: Sections, at: str, value: Any) -> None:
    sections.groups.usual = [name for name in list_of(value) if isinstance(name, str)]
    sections.findings.exact(at, "further targets of every route without fallbacks of its own")
    _unknown(sections, at, {"": sections.groups.usual})


def _repeated(sections: Sections, at: str, value: Any) -> None:
    for group, times in Counter(group for group, _ in entries(value)).items():
        if times > 1:
            which = "last" if group == "*" else "first"
            sections.findings.exact(f"{at}.{group}", f"the {which} of {times} entries is used, as in LiteLLM")


def _unknown(sections: Sections, at: str, named_groups: Mapping[str, list[str]]) -> None:
    for group, names in named_groups.items():
        for name in (group, *names) if group else names:
            if not any(each.group in (name, name.removesuffix("*")) for each in sections.groups.deployments):
                path = f"{at}.{group}" if group else at
                sections.findings.unsupported(path, f"the model group {name} is not in this file")


def _aliases(sections: Sections, at: str, value: Any) -> None:
    for alias, group in value.items() if isinstance(value, dict) else ():
        hidden = isinstance(group, dict) and bool(group.get("hidden"))
        name = group.get("model") if isinstance(group, dict) else group
        if not isinstance(name, str) or not sections.groups.of(name):
            sections.findings.unsupported(f"{at}.{alias}", "its model group is not in this file; left out")
            continue
        if not alias or sections.groups.of(str(alias)):
            sections.findings.unsupported(f"{at}.{alias}", "a model group has this name already; left out")
            continue
        sections.groups.aliases[str(alias)] = name
        if hidden:
            sections.findings.approximate(
                f"{at}.{alias}", "a route; /v1/models lists it although it is hidden in LiteLLM"
            )
        else:
            sections.findings.exact(f"{at}.{alias}", "a route")


def _cached(sections: Sections, at: str, value: Any) -> None:
    if value is True:
        sections.kept = {"exact": _USUAL_TTL, "sampled": True} | (sections.kept or {})
        sections.findings.approximate(at, "cache of every route; answers with tool calls are not cached")


def _cache_params(sections: Sections, at: str, value: Any) -> None:
    """Takes effect only with `cache: true`, which may come later in the file."""
    params = object_of(value)
    kind = str(params.get("type", "redis"))
    if kind not in ("local", "redis", "redis-semantic"):
        sections.findings.unsupported(f"{at}.type", "Sluice caches in memory or in Redis only: memory is used")
    else:
        sections.findings.exact(f"{at}.type", "cache.store")
    if kind.startswith("redis"):
        sections.cache["store"] = _redis(sections, at, params)
    read = {"type", "host", "port", "password", "username", "url"} if kind.startswith("redis") else {"type"}
    if (ttl := params.get("ttl")) is not None and (seconds := _seconds(sections, f"{at}.ttl", ttl)):
        sections.kept = (sections.kept or {}) | {"exact": written_duration(seconds)}
        sections.findings.exact(f"{at}.ttl", "cache.exact of every route")
    threshold = number(params.get("similarity_threshold"))
    if kind.endswith("semantic") and threshold is not None and threshold <= 1:
        sections.cache["similar"] = {"threshold": threshold, "embedder": "local"}
        sections.kept = (sections.kept or {}) | {"similar": (sections.kept or {}).get("exact", _USUAL_TTL)}
        sections.findings.approximate(
            f"{at}.similarity_threshold", "with a local embedder; test this threshold with questions of your own"
        )
        read.add("similarity_threshold")
    for key in params.keys() - read - {"ttl"}:
        sections.findings.unsupported(f"{at}.{key}")


def _redis(sections: Sections, at: str, params: Mapping[str, Any]) -> str:
    if isinstance(url := params.get("url"), str):
        return sections.variables.secret(url, f"{at}.url", "REDIS_URL")
    host, port = str(params.get("host") or "os.environ/REDIS_HOST"), str(params.get("port") or "6379")
    if not (named(host) or address(f"http://{host}")) or not (named(port) or port.isdecimal()):
        sections.findings.unsupported(f"{at}.host", "not a valid host and port: memory is used")
        return "memory"
    user, password = str(params.get("username") or ""), credential(params.get("password"))
    sections.findings.exact(f"{at}.host", "cache.store")
    who = ""
    if password:
        who = f"{quote(user, safe='')}:{sections.variables.secret(password, f'{at}.password', 'REDIS_PASSWORD')}@"
    return f"redis://{who}{plain(host)}:{plain(port)}/0"


def _master_key(sections: Sections, at: str, value: Any) -> None:
    if not (given := credential(value)):
        sections.findings.unsupported(at, "not a key; left out")
        return
    secret = sections.variables.secret(given, at, "LITELLM_MASTER_KEY")
    sections.access = {"keys": "required", "client_keys": [secret], "admin_token": secret}


def _callbacks(sections: Sections, at: str, value: Any) -> None:
    for name in value if isinstance(value, list) else [value]:
        if name == "prometheus":
            sections.findings.approximate(f"{at}.prometheus", "/metrics is always on; its metrics have other names")
        else:
            sections.findings.unsupported(f"{at}.{name}" if isinstance(name, str) else at)


def _constant(verdict: str, text: str) -> Rule:
    """A rule that only adds a finding."""

    def add_finding(sections: Sections, at: str, value: Any) -> None:
        if verdict == "exact":
            sections.findings.exact(at, text)
        else:
            sections.findings.approximate(at, text)

    return add_finding


def _json_logs(sections: Sections, at: str, value: Any) -> None:
    sections.log |= {"format": "json"} if value is True else {}
    sections.findings.exact(at, "log.format")


def _verbose(sections: Sections, at: str, value: Any) -> None:
    sections.log |= {"level": "debug"} if value is True else {}
    sections.findings.approximate(at, "log.level")


def _seconds(sections: Sections, at: str, value: Any) -> float | None:
    if wait := seconds(value):
        return wait
    sections.findings.unsupported(at, "not a number of seconds; left out")
    return None


RULES: Final[Mapping[tuple[str, str], Rule]] = {
    ("", "num_retries"): _retries,
    ("", "fallbacks"): _fallbacks,
    ("", "context_window_fallbacks"): _larger,
    ("", "default_fallbacks"): _usual_fallbacks,
    ("", "allowed_fails"): _allowed_fails,
    ("", "cooldown_time"): _cooldown,
    ("router_settings", "timeout"): _timeout,
    ("router_settings", "stream_timeout"): _stream_timeout,
    ("router_settings", "retry_after"): _retry_after,
    ("router_settings", "routing_strategy"): _strategy,
    ("router_settings", "model_group_alias"): _aliases,
    ("router_settings", "enable_pre_call_checks"): _constant("exact", "always on for models whose limits are known"),
    ("router_settings", "set_verbose"): _verbose,
    ("litellm_settings", "request_timeout"): _timeout,
    ("litellm_settings", "drop_params"): _constant("approximate", DROPPING),
    ("litellm_settings", "cache"): _cached,
    ("litellm_settings", "cache_params"): _cache_params,
    ("litellm_settings", "callbacks"): _callbacks,
    ("litellm_settings", "success_callback"): _callbacks,
    ("litellm_settings", "failure_callback"): _callbacks,
    ("litellm_settings", "service_callback"): _callbacks,
    ("litellm_settings", "json_logs"): _json_logs,
    ("litellm_settings", "set_verbose"): _verbose,
    ("litellm_settings", "telemetry"): _constant("exact", "Sluice sends none"),
    ("litellm_settings", "turn_off_message_logging"): _constant("exact", "prompts are not logged unless log.content"),
    ("general_settings", "master_key"): _master_key,
}
"""By section and key; "" stands for any section."""


def environment(findings: Findings, values: Any) -> None:
    """`environment_variables`: reports the names, never the values."""
    for name, value in values.items() if isinstance(values, dict) else ():
        if named(value):
            findings.exact(f"environment_variables.{name}", f"read from the variable {named(value)}")
        else:
            findings.approximate(f"environment_variables.{name}", "put it into .env beside config.yaml")
