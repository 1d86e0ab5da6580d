"""The folder that workers share: values that all agree on, and the catalogues."""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from proxy.providers.contract import Model

_LOOK: Final = 0.1  # seconds between two checks whether the leading worker is ready
_READY: Final = "ready"
_CATALOG: Final = "catalog-"  # prefix of files that hold one upstream's catalogue

log = logging.getLogger("sluice")


def agree_on(folder: Path, name: str, proposal: int) -> int:
    """A number that all workers use: the first one that was proposed."""
    place = folder / f"{name}.agreed"
    try:
        with place.open("x") as file:
            file.write(str(proposal))
    except FileExistsError:
        for _ in range(100):
            if text := place.read_text():
                return int(text)
            time.sleep(0.01)  # another worker is still writing; blocking is fine before calls are accepted
    return proposal


def leader_is_ready(folder: Path) -> None:
    """Tells the other workers that the leading one has started its models, or failed to."""
    (folder / _READY).touch()


async def wait_for_leader(folder: Path, seconds: float) -> None:
    """Waits for that, for at most `seconds`."""
    ends = time.monotonic() + seconds
    while not (folder / _READY).exists() and time.monotonic() < ends:
        await asyncio.sleep(_LOOK)


@dataclass(frozen=True, slots=True)
class SharedCatalog:
    """What the leading worker learnt about an upstream's catalogue."""

    base: str  # its address: the catalogue is valid for this one alone
    models: Sequence[Model] | None  # None: it lists none
    trouble: str = ""  # why it is unhealthy
    said: str = ""  # the same in the upstream's words


def share_catalog(folder: Path, upstream: str, shared: SharedCatalog) -> None:
    """Writes it for the other workers."""
    write_json(folder / f"{_CATALOG}{upstream}.json", asdict(shared))


def shared_catalogs(folder: Path, seen: dict[str, float]) -> dict[str, SharedCatalog]:
    """What was written since `seen` (times by upstream, updated here)."""
    found = {}
    for saved in folder.glob(f"{_CATALOG}*.json"):
        upstream = saved.stem.removeprefix(_CATALOG)
        changed = saved.stat().st_mtime
        if changed != seen.get(upstream):
            seen[upstream] = changed
            if told := read_json(saved):
                models = told["models"]
                listed = None if models is None else [Model(**_model_fields(entry)) for entry in models]
                found[upstream] = SharedCatalog(told["base"], listed, told["trouble"], told["said"])
    return found


def holds_catalog(path: Path) -> bool:
    """Whether this file of the folder is a catalogue."""
    return path.name.startswith(_CATALOG)


def _model_fields(entry: Mapping[str, Any]) -> dict[str, Any]:
    inputs = entry.get("inputs")
    return {**entry, "inputs": tuple(inputs) if inputs is not None else None}


def write_json(path: Path, content: object) -> None:
    """Writes a file atomically, so that nobody reads half of it; failures are logged."""
    new = path.with_suffix(".new")
    try:
        new.write_bytes(orjson.dumps(content))
        new.replace(path)
    except OSError as error:
        log.error("the workers' folder cannot be written: %s", error.strerror)


def read_json(path: Path) -> Any:
    """The content of a file; None if it cannot be read."""
    try:
        return orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return None
