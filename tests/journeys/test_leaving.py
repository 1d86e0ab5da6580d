"""A client that leaves ends at once all that its call caused, whatever the call was about.

SLUICE_TRIALS=200 makes so many of each, and `-s` shows how long they took.
"""

import asyncio
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.faults import CutAfter, Held, HoldAfter, Silent, Status
from tests.doubles.openai import OpenAIDouble
from tests.doubles.runpod import RunPodDouble
from tests.doubles.runpod_jobs import Plan
from tests.doubles.server import Double
from tests.journeys.callers import chat, request
from tests.running import Running, sluice
from tests.waiting import wait_for

TRIALS = int(os.environ.get("SLUICE_TRIALS", "4"))
AT_ONCE = 0.2  # seconds
BUSY = 3  # times as much, where the machine is busy
CONFIG = """
store: sqlite:///kept.db
server: {{ping: 10s}}
upstreams:
  east: {{provider: openai, base_url: {east}, api_key: sk-east}}
  west: {{provider: openai, base_url: {west}, api_key: sk-west}}
  gated: {{provider: openai, base_url: {east}, api_key: sk-east, max_in_flight: 1, max_wait: 60s, models: [m]}}
  deaf: {{provider: openai, base_url: "http://127.0.0.1:{deaf}/v1", models: [m]}}
  mute: {{provider: openai, base_url: "https://127.0.0.1:{mute}/v1", models: [m]}}
  runpod: {{provider: runpod, base_url: {runpod}, endpoint_id: ep-double, api_key: rpa_DOUBLEKEY}}
defaults:
  timeouts: {{connect: 60s}}
  retry: {{attempts: 3, backoff: 60s, max_backoff: 60s, budget: 100%}}
  breaker: {{failures: 1000000, open_for: 1s}}
routes:
  - {{model: both, to: [east/gpt-4o, west/gpt-4o]}}
  - {{model: hedged, to: [east/gpt-4o, west/gpt-4o], hedge: {{after: 1ms, budget: 100%}}}}
  - {{model: resumed, to: [east/gpt-4o, west/gpt-4o], stream_safety: resume}}
  - {{model: whole, to: east/gpt-4o, stream_safety: whole}}
  - {{model: kept, to: east/gpt-4o, cache: {{exact: 1h, sampled: true}}}}
"""


@dataclass(slots=True)
class Place:
    """A proxy and what is behind it."""

    proxy: Running
    east: OpenAIDouble
    west: OpenAIDouble
    runpod: RunPodDouble
    deaf: int  # port of a machine that answers no SYN
    mute: socket.socket  # listens; who is accepted is told nothing
    accepted: list[socket.socket] = field(default_factory=list)
    others: list[socket.socket] = field(default_factory=list)  # clients besides the one that leaves

    def ask(self, model: str, stream: bool = True) -> socket.socket:
        """A client that has sent a call."""
        host, port = self.proxy.url.removeprefix("http://").split(":")
        sock = socket.create_connection((host, int(port)), timeout=10)
        sock.sendall(request(chat(model, f"question {time.monotonic()}", stream), keeps=True, key="sk-caller"))
        return sock

    def idle(self) -> bool:
        """Whether the call is no longer under way."""
        tasks = asyncio.all_tasks(self.proxy.loop)
        running: int = sum(getattr(task.get_coro(), "__qualname__", "") == "Cycle.run" for task in tasks)
        return running == len(self.others)

    def accept(self) -> socket.socket:
        """The mute upstream's side of the next connection, once the ClientHello has come."""
        sock, _ = self.mute.accept()
        self.accepted.append(sock)
        sock.settimeout(10)
        assert sock.recv(1 << 16)
        sock.setblocking(False)
        return sock


@pytest.fixture
def place() -> Iterator[Place]:
    with ExitStack() as stack:
        east = stack.enter_context(OpenAIDouble(key="sk-east"))
        west = stack.enter_context(OpenAIDouble(key="sk-west"))
        runpod = stack.enter_context(RunPodDouble())
        deaf, mute = stack.enter_context(listening(0)), stack.enter_context(listening(16))
        stack.enter_context(socket.create_connection(deaf.getsockname()))  # fills its backlog
        ports = {"deaf": deaf.getsockname()[1], "mute": mute.getsockname()[1]}
        urls = {"east": east.url, "west": west.url, "runpod": runpod.url.removesuffix("/ep-double")}
        proxy = stack.enter_context(sluice(CONFIG.format(**ports, **urls)))
        place = Place(proxy, east, west, runpod, ports["deaf"], mute)
        place.accept()  # who asks for the list of models: this waits for twenty seconds, as does the next
        wait_for(lambda: syns(place.deaf) == 1)
        yield place
        for sock in place.accepted + place.others:
            sock.close()


def listening(backlog: int) -> socket.socket:
    sock = socket.socket()
    sock.settimeout(10)
    sock.bind(("127.0.0.1", 0))
    sock.listen(backlog)
    return sock


def syns(port: int) -> int:
    """Connections to the port that wait for the answer to their SYN (state 02 of proc(5), net/tcp)."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(line[2].endswith(f":{port:04X}") and line[3] == "02" for line in lines)


Trial = Callable[[Place], tuple[socket.socket, Callable[[], Any]]]
"""Brings a call into its phase; the client, and what must be true soon after it has left."""


def calls(double: Double, before: int) -> Callable[[], bool]:
    return lambda: len(double.calls) > before


def seen(*doubles: Double) -> Callable[[], bool]:
    """Whether these upstreams have seen Sluice leave, once more than now."""
    wanted = [(double, len(double.disconnects) + 1) for double in doubles]
    return lambda: all(len(double.disconnects) >= count for double, count in wanted)


def queued(place: Place) -> tuple[socket.socket, Callable[[], Any]]:
    """Waiting for a place before a busy upstream."""
    gate = place.proxy.app.runtime.gateway.stages.dispatch.gates["gated"]
    if not place.others:
        place.east.script(Held())
        place.others.append(place.ask("gated/m"))
        wait_for(lambda: gate.inside == 1)
    client = place.ask("gated/m")
    wait_for(lambda: gate._queued == 1)
    return client, lambda: gate._queued == 0


def connecting(place: Place) -> tuple[socket.socket, Callable[[], Any]]:
    """The upstream's machine does not answer."""
    client = place.ask("deaf/m")
    wait_for(lambda: syns(place.deaf) == 2)
    return client, lambda: syns(place.deaf) == 1


def shaking_hands(place: Place) -> tuple[socket.socket, Callable[[], Any]]:
    """TLS with somebody who says nothing."""
    client = place.ask("mute/m")
    server = place.accept()
    return client, lambda: closed(server)


def closed(server: socket.socket) -> bool:
    try:
        return not server.recv(1 << 16)
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def backing_off(place: Place) -> tuple[socket.socket, Callable[[], Any]]:
    """Between two tries."""
    answered = place.east.answers
    place.east.script(Status(500))
    client = place.ask("both")
    wait_for(lambda: place.east.answers > answered)
    return client, lambda: True


def hedging(place: Place) -> tuple[socket.socket, Callable[[], Any]]:
    """Two targets are asked at once."""
    east, west = calls(place.east, len(place.east.calls)), calls(place.west, len(place.west.calls))
    place.east.script(Silent())
    place.west.script(Silent())
    client = place.ask("hedged")
    wait_for(lambda: east() and west())
    return client, seen(place.east, place.west)


def waiting(stream: bool) -> Trial:
    """For the first token, or for a whole answer."""

    def trial(place: Place) -> tuple[socket.socket, Callable[[], Any]]:
        asked = calls(place.east, len(place.east.calls))
        place.east.script(Held())
        client = place.ask("both", stream)
        wait_for(asked)
        return client, seen(place.east)

    return trial


def falling_back(place: Place) -> tuple[socket.socket, Callable[[], Any]]:
    """The second target is asked after the first has refused."""
    asked = calls(place.west, len(place.west.calls))
    place.east.script(Status(401))
    place.west.script(Held())
    client = place.ask("both")
    wait_for(asked)
    return client, seen(place.west)


def streaming(place: Place) -> tuple[socket.socket, Callable[[], Any]]:
    """In the middle of a stream."""
    place.east.script(HoldAfter(3))
    client = place.ask("both")
    while b'"content":"' not in client.recv(1 << 16).replace(b'"content":""', b""):
        pass
    return client, seen(place.east)


def holding_back(place: Place) -> tuple[socket.socket, Callable[[], Any]]:
    """A stream that nothing is passed on of before it is whole."""
    asked = calls(place.east, len(place.east.calls))
    place.east.script(HoldAfter(3))
    client = place.ask("whole")
    wait_for(asked)
    return client, seen(place.east)


def resuming(place: Place) -> tuple[socket.socket, Callable[[], Any]]:
    """The second target is asked to go on with what the first has begun."""
    asked = calls(place.west, len(place.west.calls))
    place.east.script(CutAfter(20))
    place.west.script(Held())
    client = place.ask("resumed")
    wait_for(asked)
    return client, seen(place.west)


def filling_the_cache(place: Place) -> tuple[socket.socket, Callable[[], Any]]:
    """An answer that would be kept, and that nobody else waits for."""
    asked = calls(place.east, len(place.east.calls))
    place.east.script(HoldAfter(3))
    client = place.ask("kept")
    wait_for(asked)
    return client, seen(place.east)


def polling(plan: Plan, stream: bool) -> Trial:
    """A job in RunPod's queue: it is cancelled there."""

    def trial(place: Place) -> tuple[socket.socket, Callable[[], Any]]:
        jobs = len(place.runpod.jobs)
        place.runpod.plan(plan)
        client = place.ask(f"runpod/{place.runpod.models[0]}", stream)
        wait_for(lambda: len(place.runpod.jobs) > jobs and list(place.runpod.jobs.values())[-1].polls)
        return client, lambda: len(place.runpod.cancels) > jobs

    return trial


PHASES: dict[str, Trial] = {
    "queued": queued,
    "connecting": connecting,
    "shaking hands": shaking_hands,
    "backing off": backing_off,
    "hedging": hedging,
    "waiting for a first token": waiting(True),
    "waiting for a whole answer": waiting(False),
    "falling back": falling_back,
    "streaming": streaming,
    "holding back": holding_back,
    "resuming": resuming,
    "filling the cache": filling_the_cache,
    "polling a queued job": polling(Plan(queued=10**9), True),
    "polling a running job": polling(Plan(working=10**9, fragments=1), False),
}


@pytest.mark.parametrize("phase", PHASES)
def test_who_leaves_ends_the_call_at_once(place: Place, phase: str) -> None:
    took = sorted(one(place, PHASES[phase]) for _ in range(TRIALS))
    p50, p99 = (1e3 * took[int(len(took) * share)] for share in (0.5, 0.99))
    print(f"{phase}: {TRIALS} trials, p50 {p50:.0f} ms, p99 {p99:.0f} ms, longest {1e3 * took[-1]:.0f} ms")
    assert took[0] < AT_ONCE and took[-1] < AT_ONCE * BUSY  # a wait that we add would be in every trial
    assert place.proxy.metric("sluice_client_disconnects_total") == TRIALS
    assert place.proxy.metric("sluice_in_flight") == len(place.others)
    if phase == "backing off":
        assert len(place.east.calls) == TRIALS and not place.west.calls, "nothing was sent for who had left"


def one(place: Place, trial: Trial) -> float:
    """Seconds from the client's leaving until nothing of its call is left."""
    client, over = trial(place)
    assert not place.idle()
    began = time.monotonic()
    client.close()
    while not (over() and place.idle()):
        assert time.monotonic() - began < 10, "the call goes on"
        time.sleep(0.001)
    return time.monotonic() - began
