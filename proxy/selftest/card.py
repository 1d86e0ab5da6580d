"""The report card: one entry per fault, a hundred columns, colours only on a terminal."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, Final

from proxy.selftest.judging import Seen, letter
from proxy.selftest.preparing import Subject
from proxy.selftest.receiving import Received
from proxy.selftest.running import Row
from proxy.selftest.words import TOKENS

WIDTH: Final = 100
_COLOURS: Final = {"pass": "32", "safe": "36", "partial": "33", "fail": "31;1", "—": "2"}
_INDENT: Final = " " * 14
_MOST: Final = 6  # requests that are shown of many


def heading(subject: Subject, colour: bool) -> Iterator[str]:
    """What is tested, and under which conditions."""
    terms = subject.terms
    timeouts = "timeouts as configured" if terms.scale == 1 else f"timeouts x {terms.scale:g}"
    yield _painted("Sluice self-test", "1", colour)
    shown = subject.route.match if subject.route.exact else f"{subject.route.match}…"
    safety = f"stream_safety: {terms.policies.stream_safety}"
    yield f'  route {shown or "default"}   model "{subject.model}"   {safety}   {timeouts}'
    for place, target in enumerate(subject.targets):
        provider = subject.settings.upstreams[target.upstream].provider
        yield f"  {letter(place)}  {target.upstream}/{target.model}  ({provider})"
    for note in subject.notes():
        yield f"  · {note}"
    yield ""


def entry(row: Row, colour: bool) -> Iterator[str]:
    """One fault: verdict and title, what the caller got, what the upstreams saw, and the reason if it did not pass."""
    verdict = row.judgement.verdict if row.judgement else "—"
    seconds = f"{row.received.seconds:7.2f} s" if row.received else ""
    title = f"{row.fault.number:>3}  {_painted(f'{verdict:<7}', _COLOURS[verdict], colour)}  {row.fault.title}"
    plain = len(f"{row.fault.number:>3}  {verdict:<7}  {row.fault.title}")
    yield (title + " " * max(1, WIDTH - plain - len(seconds)) + seconds).rstrip()
    if row.judgement is None:
        yield f"{_INDENT}not covered: {row.note}"
        return
    got = row.note or (caller(row.received) if row.received else "")
    saw = upstreams(row.seen)
    if len(both := f"{_INDENT}caller {got}   upstreams {saw}") <= WIDTH:
        yield both
    else:
        yield f"{_INDENT}caller {got}"[:WIDTH]
        yield f"{_INDENT}upstreams {saw}"[:WIDTH]
    if row.judgement.verdict != "pass":
        at_best = row.judgement.verdict == row.best
        yield from _folded(f"{row.judgement.reason}{' (the best this configuration allows)' if at_best else ''}")


def caller(received: Received) -> str:
    """What the caller got, in a few words."""
    tokens = received.text.count(" ") + 1 if received.text else 0
    if received.code is not None:
        code = received.code or "an unknown error"
        return f"{tokens} of {TOKENS} tokens, then {code}" if tokens else f"{received.status} {code}"
    if not received.status:
        return "nothing"
    ends = [*received.finishes, *(["[DONE]"] if received.done else ["no end"])]
    return f"{tokens} of {TOKENS} tokens, {', '.join(ends)}"


def upstreams(seen: Sequence[Seen]) -> str:
    """The requests seen: `A 429 +0.00, A 200 +2.01`; of many, the first ones and their number."""
    shown = [f"{letter(each.place)} {each.status or '---'} +{each.at:.2f}" for each in seen[:_MOST]]
    if len(seen) <= _MOST:
        return ", ".join(shown) or "nothing"
    counted = Counter(each.place for each in seen)
    return " ".join(f"{letter(place)} x{count}" for place, count in sorted(counted.items())) + " requests"


def totals(rows: Sequence[Row], colour: bool) -> Iterator[str]:
    """The totals: of the first sixteen faults, and of the rest."""
    yield ""
    for sixteen, group in groupby(rows, key=lambda row: row.fault.number <= 16):
        among = list(group)
        counts = Counter(row.judgement.verdict if row.judgement else "—" for row in among)
        name = "faults 1-16" if sixteen else "other faults"
        parts = [
            _painted(f"{counts[verdict]} {'not covered' if verdict == '—' else verdict}", code, colour)
            for verdict, code in _COLOURS.items()
            if counts[verdict] or verdict in ("pass", "fail")
        ]
        yield f"  {name:<12} {len(among):>3} run: {', '.join(parts)}"


def as_json(subject: Subject, rows: Sequence[Row]) -> dict[str, Any]:
    """The same as JSON."""
    return {
        "model": subject.model,
        "route": subject.route.name,
        "stream_safety": subject.terms.policies.stream_safety,
        "clock_scale": subject.terms.scale,
        "targets": [f"{target.upstream}/{target.model}" for target in subject.targets],
        "notes": list(subject.notes()),
        "faults": [_row_as_json(row) for row in rows],
    }


def _row_as_json(row: Row) -> dict[str, Any]:
    received = row.received
    return {
        "number": row.fault.number,
        "fault": row.fault.title,
        "verdict": row.judgement.verdict if row.judgement else None,
        "reason": row.judgement.reason if row.judgement else "not covered",
        "best": row.best,
        "caller": row.note or (caller(received) if received else ""),
        "status": received.status if received else None,
        "code": received.code if received else None,
        "seconds": round(received.seconds, 3) if received else None,
        "upstreams": [{"target": each.place, "status": each.status, "at": round(each.at, 3)} for each in row.seen],
    }


def _folded(text: str) -> Iterator[str]:
    line = _INDENT + "→"
    for word in text.split():
        if len(line) + 1 + len(word) > WIDTH:
            yield line
            line = _INDENT + " "
        line += " " + word
    yield line


def _painted(text: str, code: str, colour: bool) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if colour else text
