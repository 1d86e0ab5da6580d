"""The running proxy: the state that outlives reloads, and the background tasks."""

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.types import Receive, Scope, Send

from proxy.accounts import Accounts
from proxy.building import Runtime, build
from proxy.cache_setup import make_cache
from proxy.control import Control
from proxy.decisions import Decisions
from proxy.doors.documents import Documents
from proxy.doors.pages.serving import Pages
from proxy.doors.vapi_events import VapiEvents
from proxy.doors.vapi_signing import Replays
from proxy.health import Health
from proxy.instruments import Instruments
from proxy.keys import Keys
from proxy.ledger import Ledger
from proxy.logs import Writer
from proxy.metrics import Metrics
from proxy.personas import Personas
from proxy.planning import ProcessState, default_upstream
from proxy.policies.pressure import Pressure, memory_limit, resident_memory
from proxy.policies.windows import SharedWindows
from proxy.reloading import Reloads
from proxy.serving.folder import leader_is_ready, wait_for_leader
from proxy.serving.series import SeriesLimit
from proxy.serving.siblings import Siblings
from proxy.serving.workers import Place
from proxy.settings import Settings
from proxy.stages.caching import Cache
from proxy.stages.history import History
from proxy.store.opening import open_store
from proxy.tracing import Tracing, tracing_of
from proxy.upstream.embedded import EmbeddedModel
from proxy.upstream.sending import Upstreams

_LOADING = 5.0  # seconds to wait for an embedded model before calls are accepted anyway
_PRESSURE_LOOK = 0.5  # seconds between two measurements of loop lag and memory
log = logging.getLogger("sluice")


@dataclass(slots=True)
class Sluice:
    """The running proxy, an ASGI app: state that outlives reloads, and the runtime of the configuration in force."""

    path: Path
    environ: Mapping[str, str]
    settings: Settings
    server: Mapping[str, object] = field(default_factory=dict)  # options of the command line, which override the file
    draining: Callable[[], bool] = lambda: False
    writer: Writer | None = None  # of the log
    place: Place | None = None  # among several workers; None: this is the only process
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    upstreams: Upstreams = field(default_factory=Upstreams)
    process: ProcessState = field(default_factory=ProcessState)
    pressure: Pressure = field(default_factory=lambda: Pressure(memory_limit()))
    history: History = field(default_factory=History)
    vapi_events: VapiEvents = field(default_factory=VapiEvents)
    vapi_replays: Replays = field(default_factory=Replays)
    pages: Pages = field(default_factory=Pages)
    documents: Documents = field(default_factory=Documents)
    personas: Personas = field(default_factory=Personas)
    keys: Keys = field(default_factory=Keys)
    ledger: Ledger = field(init=False)
    decisions: Decisions = field(init=False)
    control: Control = field(init=False)
    reloads: Reloads = field(init=False)
    health: Health = field(init=False)
    accounts: Accounts = field(init=False)
    instruments: Instruments = field(default_factory=Instruments)
    metrics: Metrics = field(init=False)
    tracing: Tracing | None = field(init=False)
    cache: Cache = field(init=False)
    runtime: Runtime = field(init=False)
    embedded: dict[str, EmbeddedModel] = field(default_factory=dict, init=False)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list, init=False)
    _fetching: asyncio.Task[None] | None = field(default=None, init=False)  # catalogue refresh; None: not by us
    _siblings: Siblings | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.reloads = Reloads(self)
        self.metrics = Metrics(self.instruments)
        self.tracing = tracing_of(self.environ)
        self.registry.register(self.instruments)
        self.upstreams.sent, self.upstreams.client.resent = self.metrics.sent, self.metrics.resent
        store = open_store(self.settings.store)
        self.ledger = Ledger(store, self.keys)
        self.keys.spent = self.ledger.spent
        self.decisions = Decisions(store, self.process, self.personas, self.keys)
        if self.place is not None:
            self.keys.windows = SharedWindows(self.place.folder / "minutes")
        self.decisions.recall()
        self.ledger.recall()
        self.control, self.health, self.accounts = Control(self, time.time()), Health(self), Accounts(self)
        self.cache = self.cache_for(self.settings)
        self.runtime = build(self, self.settings, self.cache)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "lifespan":
            return self._lifespan(receive, send)
        return self.runtime.front(scope, receive, send)

    @property
    def leads(self) -> bool:
        """Whether this process does what only one may do: it is the leading worker, or there are no others."""
        return self.place is None or self.place.leads

    def default_upstream(self) -> str | None:
        """The upstream of model names that no route matches; None: there is none."""
        return default_upstream(self.settings, self.process.default_upstream)

    def cache_for(self, settings: Settings) -> Cache:
        """A new, empty cache as the configuration asks for it. Raises MissingExtra."""

        def count(route: str, result: str) -> None:
            self.metrics.cache.labels(route, result).inc()

        return make_cache(settings, count, lambda: self.runtime.gateway)

    async def ask_siblings(self, what: str, *arguments: object) -> list[Any]:
        """The answers of the other workers to a question (see `Control.sibling_answers`); [] with a single worker."""
        return [] if self._siblings is None else await self._siblings.ask_all(what, *arguments)

    async def exposition(self) -> tuple[bytes, str]:
        """The Prometheus exposition of all workers together, and its content type."""
        if self._siblings is not None:
            self.instruments.others = await self._siblings.gather()
        return generate_latest(self.registry), CONTENT_TYPE_LATEST

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        """The ASGI lifespan: starts and stops the background tasks."""
        await receive()
        await self._start_work()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        tasks = [*self._tasks, *filter(None, [self._fetching])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self.embedded and self._siblings is not None and self.place is not None and self.place.leads:
            await self.ledger.save()  # now, since the wait below may take all the time that is left
            await self._siblings.unneeded(self.embedded, self.settings.server.drain)
        for model in self.embedded.values():
            await model.stop()
        await self.cache.aclose()
        await self.upstreams.aclose()
        if self._siblings is not None:
            await self._siblings.close()
        if self.tracing is not None:
            await asyncio.to_thread(self.tracing.close)
        await self.ledger.close()
        await asyncio.to_thread(self.decisions.store.close)
        await send({"type": "lifespan.shutdown.complete"})

    async def _start_work(self) -> None:
        """Starts the background tasks. Of several workers only the leading one fetches catalogues and runs models."""
        place, start = self.place, asyncio.create_task
        self.cache.begin()
        self.process.counters.load(self.runtime.plan.named())
        if self.leads:
            for model in self.embedded.values():
                await model.start()
            for model in self.embedded.values():
                await model.settled(_LOADING)
            self._fetching = start(self.runtime.plan.catalog.run())
            self._tasks.append(start(self.ledger.prune()))
            if place is not None:
                leader_is_ready(place.folder)
        elif place is not None:
            if self.embedded:
                await wait_for_leader(place.folder, _LOADING)
            self._tasks.append(start(self.health.follow(place.folder)))
        follow = self.decisions.follow(lambda: self.personas.join(self.runtime.plan))
        beside = (self.reloads.watch(), self._note_pressure(), follow, self.ledger.keep())
        self._tasks += map(start, beside)
        if place is not None:
            name = f"{place.index}-{os.getpid()}"
            self._siblings = Siblings(place.folder, name, self.instruments, self.control.sibling_answers)
            await self._siblings.open()
            self.instruments.limit = SeriesLimit(place.folder / "series").admitted
            self._tasks.append(start(self._siblings.keep_saving()))

    async def _note_pressure(self) -> None:
        """Measures at intervals how late the event loop is and how much memory the process takes."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _PRESSURE_LOOK
            await asyncio.sleep(_PRESSURE_LOOK)
            self.pressure.note(loop.time() - due, resident_memory())
            if not any(number.value for number in self.metrics.in_flight.values()):
                self.process.counters.catch_up()

    async def fetch_anew(self) -> None:
        """Restarts catalogue fetching with the new runtime's catalogue, and starts embedded models that are new."""
        if self._fetching is None:
            return
        self._fetching.cancel()
        for model in self.embedded.values():
            if model.state == "stopped":
                await model.start()
        self._fetching = asyncio.create_task(self.runtime.plan.catalog.run())
