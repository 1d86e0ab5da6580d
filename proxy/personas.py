"""Personas that operators made: kept in the store, routed like those of config.yaml."""

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import orjson

from proxy.errors import SluiceError, invalid_field
from proxy.stages.compiling import Preset

if TYPE_CHECKING:
    from proxy.planning import Plan

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Persona:
    """A named preset of one upstream. `set`: dotted paths and the values they are set to in every call."""

    name: str
    upstream: str
    model: str
    system: str | None = None
    set: dict[str, Any] = field(default_factory=dict)

    def text(self) -> str:
        """The persona as the store keeps it (JSON)."""
        return orjson.dumps(
            {"upstream": self.upstream, "model": self.model, "system": self.system, "set": self.set}
        ).decode()


def persona(fields: dict[str, Any]) -> Persona:
    """Parses the fields of a persona. Raises client_invalid_request, naming the field."""
    for key in fields:
        if key not in ("name", "upstream", "model", "system", "set", "source"):  # source is set by us: see `listed`
            raise invalid_field(key, "is not known; a persona has name, upstream, model, system and set")
    for key in ("name", "upstream", "model"):
        if not isinstance(fields.get(key), str) or not fields[key]:
            raise invalid_field(key, "must be a text that is not empty")
    if not _NAME.fullmatch(fields["name"]):
        raise invalid_field("name", "takes letters, digits, dots, dashes and underscores")
    system, values = fields.get("system"), fields.get("set") or {}
    if system is not None and not isinstance(system, str):
        raise invalid_field("system", "must be a text")
    if not isinstance(values, dict) or any(not key or key.partition(".")[0].lower() == "model" for key in values):
        raise invalid_field("set", "must be an object of parameters, the model not among them")
    try:
        orjson.dumps({"data": [{"set": values}]})  # nested as deeply as the admin API will write it
    except orjson.JSONEncodeError:
        raise invalid_field("set", "is nested too deeply") from None
    return Persona(fields["name"], fields["upstream"], fields["model"], system or None, values)


@dataclass(slots=True)
class Personas:
    """The personas of the store, and how they are added to a routing table."""

    made: dict[str, Persona] = field(default_factory=dict)

    def take(self, kept: dict[str, str]) -> None:
        """Replaces the personas by what the store has; unreadable entries are skipped."""
        self.made = {}
        for name, text in kept.items():
            try:
                self.made[name] = persona({"name": name, **orjson.loads(text)})
            except (SluiceError, orjson.JSONDecodeError, TypeError):
                continue

    def join(self, plan: "Plan") -> None:
        """Adds them to the routing table, except those whose upstream is gone or whose name config.yaml uses."""
        taken = plan.settings.personas
        for name in [route.match for route in plan.router.exact_routes()]:
            if name.startswith("persona/") and name.removeprefix("persona/") not in taken:
                plan.router.drop(name)
        lost = {}
        for made in self.made.values():
            if made.upstream not in plan.settings.upstreams:
                lost[f"persona/{made.name}"] = made.upstream
            elif made.name not in taken:
                plan.router.put(plan.compiler.persona(made.name, made))
        plan.router.lost = lost

    def listed(self, plan: "Plan", upstream: str | None) -> list[dict[str, Any]]:
        """`[{name, upstream, model, system, set, source}]`, those of config.yaml first."""
        taken = plan.settings.personas
        configured = [_listed(name, each, "config") for name, each in taken.items()]
        stored = [_listed(name, each, "store") for name, each in self.made.items() if name not in taken]
        return [each for each in configured + stored if upstream in (None, each["upstream"])]


def _listed(name: str, preset: Preset, source: str) -> dict[str, Any]:
    return {
        "name": name,
        "upstream": preset.upstream,
        "model": preset.model,
        "system": preset.system,
        "set": dict(preset.set),
        "source": source,
    }
