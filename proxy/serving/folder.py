"""What workers leave for each other in the folder that they share: what all agree on, and the catalogues."""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from proxy.providers.contract import Model

_LOOK: Final = 0.1  # seconds between two looks at whether the leading worker is ready
_READY: Final = "ready"
_CATALOG: Final = "catalog-"  # how the names begin of files that hold one upstream's catalogue

log = logging.getLogger("sluice")


def agree_on(folder: Path, name: str, proposal: int) -> int:
    """A number that all workers use: the one that was proposed first."""
    place = folder / f"{name}.agreed"
    try:
        with place.open("x") as file:
            file.write(str(proposal))
    except FileExistsError:
        for _ in range(100):
            if text := place.read_text():
                return int(text)
            time.sleep(0.01)  # the one that proposes is still writing; this is before any call is taken
    return proposal


def leader_is_ready(folder: Path) -> None:
    """Tells the others that what one worker alone has to start is there, or cannot be had."""
    (folder / _READY).touch()


async def wait_for_leader(folder: Path, seconds: float) -> None:
    """Waits for that, `seconds` at the most."""
    ends = time.monotonic() + seconds
    while not (folder / _READY).exists() and time.monotonic() < ends:
        await asyncio.sleep(_LOOK)


@dataclass(frozen=True, slots=True)
class SharedCatalog:
    """What the one worker that asks an upstream for its catalogue has learnt."""

    base: str  # its address: what is learnt there is nothing about another one
    models: Sequence[Model] | None  # None: it has told of none
    trouble: str = ""  # why it is not well
    said: str = ""  # the same in its own words


def share_catalog(folder: Path, upstream: str, shared: SharedCatalog) -> None:
    """Leaves it for the other workers."""
    write_json(folder / f"{_CATALOG}{upstream}.json", asdict(shared))


def shared_catalogs(folder: Path, seen: dict[str, float]) -> dict[str, SharedCatalog]:
    """What was left since `seen` (times by upstream, brought up to date here)."""
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
    """Whether this file of the folder is such a catalogue."""
    return path.name.startswith(_CATALOG)


def _model_fields(entry: Mapping[str, Any]) -> dict[str, Any]:
    inputs = entry.get("inputs")
    return {**entry, "inputs": tuple(inputs) if inputs is not None else None}


def write_json(path: Path, content: object) -> None:
    """Puts the content in place at once, so that nobody reads half of it; a failure is logged."""
    new = path.with_suffix(".new")
    try:
        new.write_bytes(orjson.dumps(content))
        new.replace(path)
    except OSError as error:
        log.error("the workers' folder cannot be written: %s", error.strerror)


def read_json(path: Path) -> Any:
    """What was written there; None where there is nothing that can be read."""
    try:
        return orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return None
