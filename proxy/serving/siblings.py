"""Queries between the workers of one Sluice: metrics, last calls, and other state that each keeps for itself."""

import asyncio
import time
from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from inspect import isawaitable
from pathlib import Path
from typing import Any, Final

import orjson

from proxy.instruments import Instruments, Snapshot
from proxy.serving.folder import holds_catalog, read_json, write_json

_PATIENCE: Final = 0.5  # seconds for a sibling to answer
_NUMBERS: Final = "numbers"
_SAVED_EACH: Final = 2.0  # seconds between two saves; a killed worker loses what it counted since
_LOOK: Final = 0.1  # seconds between two queries of `unneeded`


@dataclass(slots=True)
class Siblings:
    """One worker's view of the shared folder, where each worker process has a socket and a file under its own name."""

    folder: Path
    name: str  # "INDEX-PID"
    instruments: Instruments
    answers: Mapping[str, Callable[..., object]] = field(default_factory=dict)  # question: gives what JSON can hold
    _server: asyncio.Server | None = None

    async def open(self) -> None:
        """Starts to answer the others: a line `["WORD", …]` in, JSON out."""
        self._server = await asyncio.start_unix_server(self._answer, self.folder / f"{self.name}.sock")

    async def close(self) -> None:
        """Stops answering; leaves the last metrics behind for the others."""
        self.save()
        if self._server is not None:
            self._server.close()
            (self.folder / f"{self.name}.sock").unlink(missing_ok=True)

    async def keep_saving(self) -> None:
        """Saves the metrics at intervals, so that little is lost when this worker is killed."""
        while True:
            await asyncio.sleep(_SAVED_EACH)
            self.save()

    def save(self) -> None:
        """Writes the metrics to a file that the others read once this worker is gone."""
        write_json(self.folder / f"{self.name}.json", self.instruments.snapshot())

    async def gather(self) -> list[Snapshot]:
        """The metrics of all other workers: current ones of living workers, saved ones of ended workers.

        Each worker, this one too, saves what it reports to Prometheus first. Otherwise counters would fall when it is
        killed, which Prometheus takes for a reset and counts all over again.
        """
        living = {sock.stem for sock in self.folder.glob("*.sock")}
        saved = {file.stem for file in self.folder.glob("*.json") if not holds_catalog(file)}
        found = []
        for name in sorted((living | saved) - {self.name}):
            if (numbers := await self._ask(name, [_NUMBERS])) is not None:
                found.append(_snapshot(numbers))
            elif (left := read_json(self.folder / f"{name}.json")) is not None:  # also of a worker too busy to answer
                found.append(_without_gauges(left))
        self.save()
        return found

    async def ask_all(self, what: str, *arguments: object, patience: float = _PATIENCE) -> list[Any]:
        """The answers of all other living workers to a question, within `patience` seconds; `arguments`: JSON."""
        names = [sock.stem for sock in self.folder.glob("*.sock") if sock.stem != self.name]
        answers = await asyncio.gather(*(self._ask(name, [what, *arguments], patience) for name in names))
        return [answer for answer in answers if answer is not None]

    async def unneeded(self, upstreams: Container[str], seconds: float) -> None:
        """Waits until no other worker has a call in flight at one of these upstreams, for at most `seconds`."""
        ends = time.monotonic() + seconds
        while (left := ends - time.monotonic()) > 0:
            snapshots = await self.ask_all(_NUMBERS, patience=left)  # a busy worker may still have calls
            under_way = (_snapshot(each).get("sluice_in_flight", ()) for each in snapshots)
            if not any(numbers[0] for series in under_way for (name,), numbers in series if name in upstreams):
                return
            await asyncio.sleep(_LOOK)

    async def _ask(self, name: str, asked: Sequence[object], patience: float = _PATIENCE) -> Any:
        try:
            async with asyncio.timeout(patience):
                reader, writer = await asyncio.open_unix_connection(self.folder / f"{name}.sock")
                try:
                    writer.write(orjson.dumps(asked) + b"\n")
                    return orjson.loads(await reader.read())
                finally:
                    writer.close()
        except (OSError, TimeoutError, orjson.JSONDecodeError):
            return None

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, orjson.JSONDecodeError):  # the asking worker may have timed out or ended
            what, *arguments = orjson.loads(await reader.readline())
            if what == _NUMBERS:
                self.save()
                writer.write(orjson.dumps(self.instruments.snapshot()))
            elif (answer := self.answers.get(what)) is not None:
                result = answer(*arguments)
                writer.write(orjson.dumps(await result if isawaitable(result) else result))
            await writer.drain()
        writer.close()


def _snapshot(read: Any) -> Snapshot:
    return {name: [(tuple(values), numbers) for values, numbers in series] for name, series in read.items()}


def _without_gauges(read: Any) -> Snapshot:
    """The metrics of an ended worker: its counters stay, its gauges do not."""
    return {name: series for name, series in _snapshot(read).items() if name.endswith(("_total", "_seconds"))}
