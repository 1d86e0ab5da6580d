"""Runs all faults: timing-sensitive ones one by one, then all others concurrently."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from proxy.selftest.dialects import dialect
from proxy.selftest.judging import Judgement, Seen, Verdict, best
from proxy.selftest.preparing import Subject
from proxy.selftest.receiving import Received
from proxy.selftest.staging import staged
from proxy.selftest.wall import Fault

APART: Final = 0.03  # seconds between the starts of two scenarios


@dataclass(frozen=True, slots=True)
class Row:
    """The result for one fault. `judgement` None: it could not be played, as `note` says."""

    fault: Fault
    judgement: Judgement | None
    best: Verdict
    received: Received | None = None
    note: str = ""
    seen: tuple[Seen, ...] = ()


async def run_wall(subject: Subject, faults: Sequence[Fault], done: Callable[[Row], None]) -> list[Row]:
    """All rows in the order of the faults; `done` is called with each as it finishes."""
    rows: dict[int, Row] = {}

    async def run(fault: Fault, start: asyncio.Barrier | None = None) -> None:
        rows[fault.number] = row = await run_fault(subject, fault, start)
        done(row)

    concurrent = []
    for fault in faults:
        if fault.alone or not _spoken(subject, fault):
            await run(fault)
        else:
            concurrent.append(fault)
    start = asyncio.Barrier(max(1, len(concurrent)))  # so that setting up one does not slow another
    async with asyncio.TaskGroup() as group:
        for fault in concurrent:
            group.create_task(run(fault, start))
    return [rows[fault.number] for fault in faults]


async def run_fault(subject: Subject, fault: Fault, start: asyncio.Barrier | None = None) -> Row:
    """One row; its callers wait until all that share `start` are set up."""
    expected = best(fault.expects, subject.terms)
    if not _spoken(subject, fault):
        return Row(fault, None, expected, None, "it cannot occur in the API of the first target")
    async with staged(subject, f"fault {fault.number}", fault.first, fault.others) as stage:
        if start is not None:
            await asyncio.sleep(APART * await start.wait())
        outcome = await fault.episode(stage, fault.expects)
        return Row(fault, outcome.judgement, expected, outcome.received, outcome.note, tuple(stage.seen()))


def _spoken(subject: Subject, fault: Fault) -> bool:
    """Whether the fault can be expressed in the dialect of any target that may be asked first."""
    providers = [subject.settings.upstreams[target.upstream].provider for target in subject.targets]
    first = providers if subject.route.weighted else providers[:1]
    return all(dialect(provider).name in fault.dialects for provider in first)
