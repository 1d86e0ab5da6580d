"""The environment of one scenario: fault upstreams, a Sluice of its own in front of them, and callers."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from proxy.app import Sluice
from proxy.selftest.asking import Caller
from proxy.selftest.dialects import dialect
from proxy.selftest.judging import Seen, Terms
from proxy.selftest.preparing import Subject, addressed
from proxy.selftest.receiving import Received
from proxy.selftest.upstream import FaultUpstreams, Script, counted_at, healthy
from proxy.serving.limits import Limits
from proxy.serving.listening import listen
from proxy.serving.running import Drain, Hooks, Server, Serving


class QuietServer(Server):
    """The real server without its process-wide effects: signal handlers and garbage collector settings."""

    def calm_collector(self) -> None:
        """The collector stays as it is."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals stay with the command."""
        yield


@dataclass(frozen=True, slots=True)
class Stage:
    """A running Sluice and its upstreams."""

    subject: Subject
    upstreams: FaultUpstreams
    port: int
    name: str  # name of the scenario, with which every question begins

    @property
    def terms(self) -> Terms:
        """The route's policies."""
        return self.subject.terms

    def caller(self, at: int = 0, streamed: bool = True, slow: bool = False) -> Caller:
        """A caller for the question number `at`."""
        return Caller(self.subject.model, f"{self.name} {at}", streamed, slow)

    async def ask(self, at: int, seconds: float, streamed: bool = True) -> tuple[Caller, Received]:
        """Asks the question number `at`, and waits up to `seconds` for the answer."""
        caller = self.caller(at, streamed)
        await caller.ask(self.port)
        return caller, await caller.answer(seconds)

    def seen(self) -> list[Seen]:
        """The requests that upstreams got so far, times relative to the first."""
        asked, upstreams = self.upstreams.asked, self.upstreams
        places = [upstreams.place_of(each) for each in asked]
        return [
            Seen(place, each.at - asked[0].at, each.status, each.model, counted_at(place), each.reused)
            for place, each in zip(places, asked, strict=True)
        ]


@asynccontextmanager
async def staged(subject: Subject, name: str, first: Script, others: Script = healthy) -> AsyncIterator[Stage]:
    """Sets a scenario up, and tears it down afterwards."""
    used = dict.fromkeys(target.upstream for target in subject.targets)
    dialects = {each: dialect(subject.settings.upstreams[each].provider) for each in used}
    models = {each: subject.models_of(each) for each in used}
    scale = subject.terms.scale
    with TemporaryDirectory(prefix="sluice-selftest-") as folder:
        async with FaultUpstreams(dialects, models, first, others, scale) as upstreams:
            async with _sluice(subject, upstreams, Path(folder)) as port:
                yield Stage(subject, upstreams, port, name)


@asynccontextmanager
async def _sluice(subject: Subject, upstreams: FaultUpstreams, folder: Path) -> AsyncIterator[int]:
    settings = addressed(subject.settings, upstreams.ports, folder)
    drain = Drain()
    app = Sluice(folder / "config.yaml", {}, settings, draining=lambda: drain.draining)
    sockets = listen("127.0.0.1", 0)
    serving = Serving(drain=0.1, limits=Limits(max_body=settings.server.max_body))
    server = QuietServer(app, serving, drain, Hooks())
    task = asyncio.create_task(server.serve(sockets=sockets))
    try:
        while not server.started and not task.done():
            await asyncio.sleep(0.005)
        yield sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await task
        for sock in sockets:
            sock.close()
