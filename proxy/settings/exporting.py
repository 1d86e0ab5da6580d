"""The JSON Schema of config.yaml, for editors and for the generated reference."""

from collections.abc import Callable
from typing import Any, Final

from proxy import units
from proxy.settings.schema import Settings

_WRITTEN: Final[dict[str, Callable[[Any], str]]] = {
    units.DURATION: units.written_duration,
    units.SIZE: units.written_size,
    units.SHARE: units.written_share,
}


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12): values and defaults as written in YAML, not as the settings hold them."""
    schema = Settings.model_json_schema()
    for part in (schema, *schema["$defs"].values()):
        for field in part["properties"].values():
            field.pop("title", None)  # only repeats the key
            _write_default(field)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Sluice's config.yaml"} | schema


def _write_default(field: dict[str, Any]) -> None:
    """A default in seconds, bytes or as a share, in its YAML notation."""
    for pattern, written in _WRITTEN.items():
        if pattern in field.get("pattern", "") and "default" in field:
            field["default"] = written(field["default"])
