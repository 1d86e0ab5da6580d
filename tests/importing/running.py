"""Imported configurations, written out and looked at as `sluice check` does."""

import re
from pathlib import Path

from proxy.importing.litellm import Imported, convert
from proxy.planning import Plan, plan
from proxy.providers.registry import FACTS
from proxy.settings import load
from proxy.stages.routing import routing_mismatch

CONFIGS = sorted((Path(__file__).parent / "configs").glob("*.yaml"))


def imported(name: str) -> Imported:
    """The import of one of the configs, by the beginning of its name."""
    (path,) = [path for path in CONFIGS if path.name.startswith(name)]
    return convert(path.read_text("utf-8"))


def written(folder: Path, text: str) -> Path:
    """The configuration in a file, with a `.env` beside it that sets every variable it names."""
    names = set(re.findall(r"(?<!\$)\$\{([A-Z][A-Z0-9_]*)", text))
    values = {name: "https://llm.example/v1" if "BASE" in name else f"value-of-{name}" for name in names}
    (folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in values.items()))
    path = folder / "config.yaml"
    path.write_text(text, "utf-8")
    return path


def planned(folder: Path, text: str) -> Plan:
    """The plan of a configuration, its routing tests passed. Raises ConfigError, and AssertionError for a test."""
    settings = load(written(folder, text), {}, FACTS)
    made = plan(settings)
    for test in settings.tests:
        assert routing_mismatch(made.router, test.model, test.expect) == ""
    return made


def targets(made: Plan, model: str) -> list[str]:
    """Where a model name leads."""
    return [f"{target.upstream}/{target.model}" for target in made.router.resolve(model).targets]
