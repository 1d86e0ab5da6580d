"""Runs the bench: `python -m bench.run [--quick] [--rows W1,W3]` from the root of the repository."""

import argparse
import json
import os
import resource
import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.figures import judged, medians
from bench.processes import BenchError, machine, unwind_on_signals
from bench.rows import Bench, Measure, Row, as_json, chosen
from bench.targets import HERE, LOAD_CORE, Target, build, refused, targets, upstream

NOISE = 0.1  # cores that others may use before a figure is called disturbed


@dataclass(slots=True)
class Outcome:
    """What all rounds measured for one row: one mapping of target name to measure per round and repetition."""

    row: Row
    rounds: list[dict[str, Measure]] = field(default_factory=list)

    @property
    def values(self) -> list[dict[str, float]]:
        """Only the values."""
        return [{name: measure.value for name, measure in each.items()} for each in self.rounds]

    @property
    def cpu(self) -> dict[str, float]:
        """Each proxy's median CPU time per request or event, in microseconds."""
        return medians([{n: m.cpu_us for n, m in each.items() if m.cpu_us is not None} for each in self.rounds])

    @property
    def disturbed(self) -> bool:
        """Whether others used the machine so much that the values mean little."""
        foreign = medians([{n: m.foreign for n, m in each.items()} for each in self.rounds])
        return any(value > NOISE for value in foreign.values())


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Sluice beside nginx, before one fast upstream.")
    parser.add_argument("--quick", action="store_true", help="one round of 2 s each")
    parser.add_argument("--rows", default="", help="only these, such as W1,W3; Wo and Wa: the translated ones")
    parser.add_argument("--targets", default="nginx,sluice", help="what to put before the upstream")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="that each measurement takes")
    parser.add_argument("--out", type=Path, help="where the JSON goes (a full run: bench/results/DATE.json)")
    parser.add_argument("--realtime", action="store_true", help="go before all other processes (root only)")
    parser.add_argument("--awake", action="store_true", help="load and upstream look for work and never sleep")
    asked = parser.parse_args()
    if asked.quick:
        asked.rounds, asked.seconds = 1, 2.0
    elif asked.out is None and not asked.rows:  # part of a run must not replace a whole one of the same day
        asked.out = HERE / "results" / f"{datetime.now():%Y-%m-%d}.json"
    return asked


def prepare(realtime: bool) -> None:
    """Compiles, and makes room: files for thousands of connections, core 0 for the proxy alone.

    `realtime`: the bench and all that it starts are scheduled before the other processes of the machine.
    """
    if len(os.sched_getaffinity(0)) < 2:
        raise BenchError("The bench needs two cores: one for the proxy, one for load and upstream.")
    build(HERE / "build")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.sched_setaffinity(0, {int(LOAD_CORE)})
    if realtime:
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(os.sched_get_priority_min(os.SCHED_FIFO)))
        except PermissionError:
            raise BenchError("--realtime takes root, or CAP_SYS_NICE.") from None


def skip_unknown(rows: list[Row], folder: Path) -> tuple[list[Row], dict[str, str]]:
    """The rows whose provider this version knows, and why the others are left out."""
    reasons = {need: refused(need, folder) for need in dict.fromkeys(row.needs for row in rows if row.needs)}
    skipped = {row.name: reasons[row.needs] for row in rows if row.needs and reasons[row.needs]}
    return [row for row in rows if row.name not in skipped], skipped


def one_round(number: int, outcomes: list[Outcome], names: list[str], bench: Bench) -> None:
    """Starts every target afresh and measures row by row; on odd rounds the targets come in reverse."""
    providers = tuple(dict.fromkeys(outcome.row.needs for outcome in outcomes if outcome.row.needs))
    needed = {name for outcome in outcomes for name in outcome.row.targets} & {*names, "sluice+routes", "2 workers"}
    with targets(sorted(needed), bench.folder, bench.direct, providers) as found:
        for outcome in outcomes:
            for repetition in range(outcome.row.repeat):
                here = [found[name] for name in outcome.row.targets if name in found]
                if (number + repetition) % 2:
                    here.reverse()
                outcome.rounds.append({target.name: timed(number, outcome.row, bench, target) for target in here})


def timed(number: int, row: Row, bench: Bench, target: Target) -> Measure:
    """One measurement, told on stderr."""
    measure = row.measure(bench, target)
    print(f"round {number + 1}  {row.name:7}{target.name:15}{measure.value:12,.2f} {row.unit}", file=sys.stderr)
    return measure


def table(outcomes: list[Outcome], skipped: dict[str, str]) -> str:
    """The medians, as text."""
    lines = [f"{'row':8}{'what':40}{'unit':12}{'direct':>10}{'nginx':>10}{'sluice':>10}  {'judged by':28}CPU us each"]
    for outcome in outcomes:
        row, middle = outcome.row, medians(outcome.values)
        subject, reference = row.goal.subject, "sluice" if row.goal.against == "sluice" else "nginx"
        shown = (middle.get("direct"), middle.get(reference), middle.get(subject))
        cells = "".join(f"{'-' if value is None else format(value, f',.{row.digits}f'):>10}" for value in shown)
        cpu = ", ".join(f"{name} {value:.1f}" for name, value in outcome.cpu.items())
        noise = "  (others used this machine)" if outcome.disturbed else ""
        lines.append(f"{row.name:8}{row.title:40}{row.unit:12}{cells}  {verdict(outcome):28}{cpu}{noise}")
    for name, reason in skipped.items():
        lines.append(f"{name:8}left out, the config refuses it: {reason.splitlines()[0]}")
    return "\n".join(lines)


def verdict(outcome: Outcome) -> str:
    """Such as "0.31 x nginx (>= 0.25)", with an exclamation mark where the goal is missed."""
    goal, score = outcome.row.goal, judged(outcome.row.goal, outcome.values)
    if score is None:
        return "-"
    how = {"ratio": f" x {goal.against}", "difference": f" over {goal.against}", "value": ""}[goal.how]
    return f"{score:.2f}{how} ({'>=' if goal.how == 'ratio' else '<='} {goal.limit:g}){'' if goal.met(score) else ' !'}"


def record(asked: argparse.Namespace, outcomes: list[Outcome], skipped: dict[str, str]) -> dict[str, Any]:
    """Everything that was measured, ready for json.dumps."""
    return {
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "machine": machine(),
        "rounds": asked.rounds,
        "seconds": asked.seconds,
        "realtime": asked.realtime,
        "awake": asked.awake,
        "skipped": skipped,
        "rows": {outcome.row.name: row_record(outcome) for outcome in outcomes},
    }


def row_record(outcome: Outcome) -> dict[str, Any]:
    """One row: medians, what it is judged by, and each round's values, raw."""
    goal, score = outcome.row.goal, judged(outcome.row.goal, outcome.values)
    return {
        "what": outcome.row.title,
        "unit": outcome.row.unit,
        "medians": medians(outcome.values),
        "cpu_us": outcome.cpu,
        "goal": {"how": goal.how, "against": goal.against, "limit": goal.limit},
        "score": score,
        "met": None if score is None else goal.met(score),
        "scores": [goal.score(values) for values in outcome.values],
        "disturbed": outcome.disturbed,
        "rounds": [{name: as_json(measure) for name, measure in each.items()} for each in outcome.rounds],
    }


def main() -> int:
    """0: measured, whatever the figures; 1: could not."""
    unwind_on_signals()
    asked = options()
    try:
        rows = chosen([name for name in asked.rows.split(",") if name])
        prepare(asked.realtime)
        if asked.awake:
            os.environ["BENCH_AWAKE"] = "1"  # for load and upstream, see waiting.h
        folder = Path(tempfile.mkdtemp(prefix="sluice-bench-"))
        try:
            rows, skipped = skip_unknown(rows, folder)
            outcomes = [Outcome(row) for row in rows]
            with upstream(folder) as direct:
                for number in range(asked.rounds):
                    bench = Bench(folder, asked.seconds, 1.2 if asked.quick else 1.05, direct)
                    one_round(number, outcomes, asked.targets.split(","), bench)
        finally:
            shutil.rmtree(folder)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print(table(outcomes, skipped))
    if asked.out:
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        asked.out.write_text(json.dumps(record(asked, outcomes, skipped), indent=1) + "\n")
        print(f"written to {asked.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
