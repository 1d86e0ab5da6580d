"""Runs the wall: the delicate scenarios one by one, then all others side by side."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from proxy.selftest.dialects import dialect
from proxy.selftest.exchanging import Subject
from proxy.selftest.hearing import Heard
from proxy.selftest.judging import Judgement, Seen, Verdict, best, patience
from proxy.selftest.staging import staged
from proxy.selftest.wall import Fault

ABREAST: Final = 12  # scenarios at a time: more, and the machine's own slowness would be measured


@dataclass(frozen=True, slots=True)
class Row:
    """What came of one fault. `judgement` None: it could not be played, as `told` says."""

    fault: Fault
    judgement: Judgement | None
    best: Verdict
    heard: Heard | None = None
    told: str = ""
    seen: tuple[Seen, ...] = ()


async def run_wall(subject: Subject, faults: Sequence[Fault], done: Callable[[Row], None]) -> list[Row]:
    """All rows in the faults' order; `done` is told each as it comes."""
    rows: dict[int, Row] = {}

    async def run(fault: Fault) -> None:
        rows[fault.number] = row = await run_fault(subject, fault)
        done(row)

    for fault in faults:
        if fault.alone:
            await run(fault)
    abreast = asyncio.Semaphore(ABREAST)

    async def queued(fault: Fault) -> None:
        async with abreast:
            await run(fault)

    others = sorted((fault for fault in faults if not fault.alone), key=lambda each: -_length(subject, each))
    async with asyncio.TaskGroup() as group:
        for fault in others:
            group.create_task(queued(fault))
    return [rows[fault.number] for fault in faults]


def _length(subject: Subject, fault: Fault) -> float:
    """About how long it takes; the longest begin first."""
    return patience(fault.expects, subject.terms) + (90 * subject.terms.scale if fault.number == 15 else 0)


async def run_fault(subject: Subject, fault: Fault) -> Row:
    """One row."""
    expected = best(fault.expects, subject.terms)
    providers = [subject.settings.upstreams[target.upstream].provider for target in subject.targets]
    spoken = providers if subject.route.weighted else providers[:1]
    if not all(dialect(provider).name in fault.dialects for provider in spoken):
        return Row(fault, None, expected, None, "the first target's dialect has no such thing")
    async with staged(subject, f"fault {fault.number}", fault.first, fault.others) as stage:
        outcome = await fault.episode(stage, fault.expects)
        return Row(fault, outcome.judgement, expected, outcome.heard, outcome.told, tuple(stage.seen()))
