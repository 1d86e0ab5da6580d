"""Writes docs/configuration.md and docs/config.schema.json from the settings' own schema; --check only compares."""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from proxy.providers.registry import FACTS  # noqa: E402
from proxy.settings import json_schema  # noqa: E402

Schema = Mapping[str, Any]

HEAD: Final = """\
# Configuration

<!-- Made by docs/build_configuration.py from the settings' schema. Do not edit: change proxy/settings/ and run it. -->

One file, `config.yaml` (or the path in `--config` or `SLUICE_CONFIG`). `sluice check` validates it, runs its routing
tests and prints the routing table. For completion and checks in an editor, put this line at its top:

```
# yaml-language-server: $schema=docs/config.schema.json
```

- **Variables**: `${NAME}` (must be set) and `${NAME:-default}` in any text value; `$$` is a dollar sign. A `.env` file
  beside the configuration is read first, the real environment wins. `NAME_FILE` names a file that holds the value.
- **Units**: durations `250ms`, `5s`, `10m`, `1h`; sizes `64KB`, `20MB`, `1GB` (powers of 1024); shares `20%`. A bare
  number is an error.
- **Paths** that are relative start at the configuration file.
- **Errors**: an unknown or duplicate key, a wrong type or a name that leads nowhere is an error with file, line,
  column, what was expected and the nearest known name. Nothing starts half-configured; the exit code is 2.
- **Reload**: a change of the file is taken over within 5 s, at once on SIGHUP or `POST /admin/reload`. A file with an
  error changes nothing: the last good one stays in force, `sluice_config_valid` is 0, the log and /admin say why.
  What the process has from its start needs a restart: `server.host`, `port`, `workers`, `drain` and `timeouts`,
  `store`, `log.format`, and a `server.max_body` above the one it started with.
  Until then access is judged by the host that is listened on.
  Breakers and queues of upstreams that stay as they are go on as they were; running calls end as they began.
- Every key but `upstreams` has a default. In the tables NAME stands for a name of your own and `[]` for each item.
"""

TARGETS: Final = """
`to` is a target or a list of targets. A target is `upstream` (the model name goes as asked), `upstream/model-template`,
or a mapping of the keys below. Templates know `{model}`, the name as asked, and `{rest}`, what follows the prefix.
Each upstream has a route of its own without being written: the prefix `NAME/`, to that upstream with `{rest}`.
"""


def main() -> int:
    """Writes both files; with --check says which is out of date, and 1 if any is."""
    schema = json_schema()
    made = {
        HERE / "configuration.md": page(schema),
        HERE / "config.schema.json": json.dumps(schema, indent=2, ensure_ascii=False) + "\n",
    }
    stale = [path for path, text in made.items() if not path.exists() or path.read_text("utf-8") != text]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"docs/{path.name} is out of date: run docs/build_configuration.py", file=sys.stderr)
        return 1 if stale else 0
    for path in stale:
        path.write_text(made[path], "utf-8")
        print(f"docs/{path.name}")
    return 0


def page(schema: Schema) -> str:
    """The reference: a section per key of the file."""
    sections = [_section(schema, key, field) for key, field in schema["properties"].items()]
    return "\n".join([HEAD, *sections, _providers()])


def _section(schema: Schema, key: str, field: Schema) -> str:
    rows = list(_rows(schema, key, field))
    inner, _ = _inside(schema, field)
    says = field.get("description") or (inner or {}).get("description", "")
    lines = [f"## `{key}`\n", f"{says}\n"]
    if key == "routes":
        lines.append(TARGETS)
    lines += ["| key | value | default | |", "|---|---|---|---|"]
    lines += [f"| `{path}` | {kind} | {default} | {says} |" for path, kind, default, says in rows]
    return "\n".join(lines) + "\n"


def _rows(schema: Schema, path: str, field: Schema, required: bool = False) -> Iterator[tuple[str, str, str, str]]:
    """A row for each key that holds a value, those of mappings inside as dotted paths."""
    inner, step = _inside(schema, field)
    if inner is None:
        default = "**required**" if required else _default(field)
        yield path, _kind(schema, field), default, field.get("description", "").replace("|", "\\|")
        return
    if path.endswith(".to"):
        yield path, "target, or list of targets", "**required**", field["description"]
    for key, part in inner["properties"].items():
        yield from _rows(schema, f"{path}{step}.{key}", part, key in inner.get("required", ()))


def _inside(schema: Schema, field: Schema) -> tuple[Schema | None, str]:
    """The mapping that a field holds (itself, by name, or in a list), and how its place is written."""
    for option in field.get("anyOf", [field]):
        if "$ref" in option:
            return schema["$defs"][option["$ref"].rpartition("/")[2]], ""
        for holder, step in (("additionalProperties", ".NAME"), ("items", "[]")):
            held = option.get(holder)
            if isinstance(held, dict):
                inner, _ = _inside(schema, held)
                if inner is not None:
                    return inner, step
    return None, ""


def _default(field: Schema) -> str:
    value = field.get("default")
    if value is None or value == "":
        return ""
    written = json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict | bool) else str(value)
    return f"`{written}`"


def _kind(schema: Schema, field: Schema) -> str:
    """A field's type in words; a variable may stand for any."""
    options = field.get("anyOf", [field])
    kinds = []
    for option in options:
        kind = _one(schema, option)
        if kind and kind not in kinds:
            kinds.append(kind)
    return " or ".join(kinds)


def _one(schema: Schema, option: Schema) -> str:
    if "anyOf" in option:
        return _kind(schema, option)
    pattern = option.get("pattern", "")
    if "ms|s|m|h" in pattern:
        return "duration"
    if "KB|MB" in pattern:
        return "size"
    if "%" in pattern:
        return "share"
    if pattern or option.get("type") == "null":
        return ""  # a variable, or left out
    if "enum" in option:
        return " · ".join(f"`{value}`" for value in option["enum"])
    kind = option.get("type")
    if kind == "array":
        return f"list of {_kind(schema, option['items'])}".replace("list of text", "list of texts")
    if kind == "object":
        held = option.get("additionalProperties")
        return f"mapping to {_kind(schema, held)}" if isinstance(held, dict) and held else "mapping"
    words = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}
    return words.get(str(kind), "any value")


def _providers() -> str:
    """The providers that `upstreams.NAME.provider` knows."""
    lines = ["## Providers\n", "What each does is in [providers.md](providers.md).\n"]
    lines += ["| provider | base_url | key variable | needs a key |", "|---|---|---|---|"]
    for name, facts in sorted(FACTS.items()):
        needed = (
            "always" if facts.key_required else "at that address" if facts.key_variable and facts.base_url else "no"
        )
        needed = "no" if name == "ollama" else needed
        base = f"`{facts.base_url}`" if facts.base_url else "started by Sluice" if name == "llamacpp" else "yours"
        lines.append(f"| `{name}` | {base} | {facts.key_variable and f'`{facts.key_variable}`'} | {needed} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
