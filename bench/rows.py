"""The rows of the bench: what is asked of every target in turn, and what comes of it."""

import json
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from bench.figures import Goal, most_that_pass
from bench.processes import BenchError, cpu_seconds, foreign_cpu_seconds, resident_mib
from bench.targets import CLIENT_KEY, HERE, LOAD_CORE, Target

PROSE: Final = "Explain in detail how a reverse proxy handles streaming responses and backpressure. "
PACE: Final = 20  # ms between the events of a paced stream, and the added delay that W4 allows
MOST_STREAMS: Final = 4096


@dataclass(frozen=True, slots=True)
class Body:
    """A chat completion to ask for, padded to `size` bytes. `events`: 0 asks for a whole answer. `pace`: ms."""

    model: str = "gpt-4o"
    size: int = 1024
    events: int = 0
    pace: int = 0

    def write(self, folder: Path) -> Path:
        """The body as a file."""
        asked: dict[str, Any] = {"model": self.model, "temperature": 0.7}
        if self.events:
            asked |= {"max_tokens": self.events, "stream": True, "stream_options": {"include_usage": True}}
        if self.pace:
            asked["seed"] = self.pace
        asked["messages"] = [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": ""},
        ]
        missing = self.size - len(json.dumps(asked))
        asked["messages"][1]["content"] = (PROSE * (missing // len(PROSE) + 1))[:missing]
        path = folder / f"body-{self.model.replace('/', '-')}-{self.size}-{self.events}-{self.pace}.json"
        path.write_text(json.dumps(asked))
        return path


@dataclass(frozen=True, slots=True)
class Load:
    """What the load generator is told, see load.c."""

    body: Body
    connections: int
    warmup: float = 0.5  # seconds
    stagger: float = 0.0  # seconds
    rate: float = 0.0  # requests per second; 0: as fast as answers come


@dataclass(frozen=True, slots=True)
class Measure:
    """One value of one target. `cpu_us`: the proxy's CPU time per request or event; `foreign`: cores used by others."""

    value: float
    cpu_us: float | None = None
    foreign: float = 0.0
    raw: Any = None


@dataclass(slots=True)
class Bench:
    """What the rows need of one run: where files may be written, how long to measure, what was learnt on the way."""

    folder: Path
    seconds: float
    precision: float  # of the search in W4
    direct: Target
    delays: dict[int, dict[str, Any]] = field(default_factory=dict)  # of paced streams without any proxy, by number


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. `needs`: a provider that this version of Sluice must know."""

    name: str
    title: str
    unit: str
    goal: Goal
    measure: Callable[[Bench, Target], Measure]
    targets: tuple[str, ...] = ("direct", "nginx", "sluice")
    needs: str = ""
    repeat: int = 1  # times per round
    digits: int = 0  # behind the point, in the table


def press(bench: Bench, target: Target, load: Load) -> dict[str, Any]:
    """One run of the load generator against one target: its JSON, the proxy's CPU seconds and those of others."""
    command = ["taskset", "-c", LOAD_CORE, str(HERE / "build" / "load"), "-p", str(target.port)]
    command += ["-b", str(load.body.write(bench.folder)), "-k", CLIENT_KEY, "-c", str(load.connections)]
    command += ["-d", str(bench.seconds), "-w", str(load.warmup), "-s", str(load.stagger), "-r", str(load.rate)]
    proxy, foreign = cpu_seconds(target.pid) if target.pid else 0.0, foreign_cpu_seconds()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"{' '.join(command)}: {done.stderr}")
    said: dict[str, Any] = json.loads(done.stdout)
    said["proxy_cpu_seconds"] = cpu_seconds(target.pid) - proxy if target.pid else None
    said["foreign_cores"] = (foreign_cpu_seconds() - foreign) / (bench.seconds + load.warmup)
    return said


def throughput(body: Body, connections: int) -> Callable[[Bench, Target], Measure]:
    """As many answers, or events where they are streamed, as the target gives, per second."""
    unit: Literal["requests", "events"] = "events" if body.events else "requests"

    def measure(bench: Bench, target: Target) -> Measure:
        said = press(bench, target, Load(body, connections))
        if said["failed"]:
            raise BenchError(f"{target.name} failed {said['failed']} of {said['all_requests']}: {said['statuses']}")
        cpu = said["proxy_cpu_seconds"]
        each = cpu * 1e6 / said[f"all_{unit}"] if cpu is not None and said[f"all_{unit}"] else None
        return Measure(said[f"{unit}_per_second"], each, said["foreign_cores"], said)

    return measure


def capacity(bench: Bench, target: Target) -> Measure:
    """Whole answers per second that the proxy's workers could give with a core each.

    By the CPU time that an answer took them while all were busy: load and upstream need a part of the cores here.
    """
    said = throughput(Body(), 64)(bench, target)
    assert said.cpu_us is not None
    return Measure(target.workers * 1e6 / said.cpu_us, said.cpu_us, said.foreign, said.raw)


def streams(bench: Bench, target: Target) -> Measure:
    """How many paced streams the target carries before it adds more than their pace to the delay (p99)."""
    steps: list[dict[str, Any]] = []

    def once(on: Target, number: int) -> dict[str, Any]:
        return press(bench, on, Load(Body(events=100, pace=PACE), number, warmup=1.2, stagger=1.0))

    def carries(number: int) -> bool:
        power = 1 << (number.bit_length() - 1)  # what no proxy at all costs is measured at powers of two
        if power not in bench.delays:
            bench.delays[power] = once(bench.direct, power)
            if not bench.delays[power]["events"]:
                raise BenchError(f"{power} streams are more than load and upstream can do by themselves.")
        if bench.delays[power]["event_delay"]["p99"] > PACE:
            return False  # load and upstream are late by themselves: that says nothing of what is between them
        bare, said = bench.delays[power], once(target, number)
        steps.append({"streams": number, "bare": bare["event_delay"], **said})
        if said["failed"] or said["events_per_second"] / number < 0.9 * bare["events_per_second"] / power:
            return False
        return bool(said["event_delay"]["p99"] - bare["event_delay"]["p99"] <= PACE)

    def carries_or_was_disturbed(number: int) -> bool:
        return carries(number) or carries(number)

    found = most_that_pass(carries_or_was_disturbed, 256, MOST_STREAMS, bench.precision)
    best = [step for step in steps if step["streams"] == found and step["proxy_cpu_seconds"]]
    each = best[-1]["proxy_cpu_seconds"] * 1e6 / best[-1]["all_events"] if best else None
    return Measure(found, each, max((step["foreign_cores"] for step in steps), default=0.0), steps)


def calm(bench: Bench, target: Target) -> Measure:
    """Median latency in ms at 50 requests per second."""
    said = press(bench, target, Load(Body(), connections=16, rate=50))
    cpu = said["proxy_cpu_seconds"]
    each = cpu * 1e6 / said["all_requests"] if cpu is not None else None
    return Measure(said["latency"]["p50"], each, said["foreign_cores"], said)


def started(_: Bench, target: Target) -> Measure:
    """Seconds from the process's start to its first answer."""
    return Measure(target.started)


def resident(_: Bench, target: Target) -> Measure:
    """Memory in MiB."""
    return Measure(resident_mib(target.pid))


def _nginx(limit: float) -> Goal:
    return Goal("ratio", limit, "nginx")


PROXIES: Final = ("nginx", "sluice")
_whole, _events = "requests/s", "events/s"

ROWS: Final = (
    Row("start", "until it answers", "s", Goal("value", 1.0), started, PROXIES, digits=2),
    Row("idle", "memory before the first call", "MiB", Goal("value", 70.0), resident, PROXIES),
    Row("W1", "whole answers, 1 KB in, 64 connections", _whole, _nginx(0.25), throughput(Body(), 64)),
    Row("W2", "the same, 32 KB in", _whole, _nginx(0.25), throughput(Body(size=32768), 64)),
    Row("W3", "streams of 64 events, 32 connections", _events, _nginx(1.0), throughput(Body(events=64), 32)),
    Row("W3r", "the same, a rule on every event", _events, _nginx(0.35), throughput(Body("rule-4o", events=64), 32)),
    Row("W4", "streams of an event each 20 ms", "streams", _nginx(0.5), streams, PROXIES),
    Row("W5", "p50 at 50 requests/s", "ms", Goal("difference", 1.0, "direct"), calm, digits=2),
    Row(
        "routes",
        "W1 without and with 1,000 more routes",
        _whole,
        Goal("ratio", 0.97, "sluice", "sluice+routes"),
        throughput(Body(), 64),
        ("sluice", "sluice+routes"),
        repeat=3,
    ),
    Row(
        "workers",
        "W1 with a core for each of 2 workers",
        _whole,
        Goal("ratio", 1.7, "sluice", "2 workers"),
        capacity,
        ("sluice", "2 workers"),
    ),
    *(
        row
        for letter, provider in (("o", "ollama"), ("a", "anthropic"))
        for row in (
            Row(
                f"W{letter}1",
                f"W1, translated for {provider}",
                _whole,
                _nginx(0.10),
                throughput(Body(f"{provider}/bench"), 64),
                needs=provider,
            ),
            Row(
                f"W{letter}3",
                f"W3, translated for {provider}",
                _events,
                _nginx(0.25),
                throughput(Body(f"{provider}/bench", events=64), 32),
                needs=provider,
            ),
        )
    ),
)


def chosen(names: list[str]) -> list[Row]:
    """The rows of these names in the order of the table, all without any; Wo and Wa stand for their two rows each."""
    known = {row.name for row in ROWS} | {"Wo", "Wa"}
    if wrong := sorted(set(names) - known):
        raise BenchError(f"No row is called {', '.join(wrong)}; there are {', '.join(row.name for row in ROWS)}.")
    return [row for row in ROWS if not names or row.name in names or (row.needs and row.name[:2] in names)]


def as_json(measure: Measure) -> dict[str, Any]:
    """The measure, ready for json.dumps."""
    return asdict(measure)
