"""The only assembly: settings in, the parts put together, one ASGI app out."""

import asyncio
import logging
import os
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry
from starlette.types import Receive, Scope, Send

from proxy.call import Call
from proxy.control import Control
from proxy.doors.admin import AdminDoor
from proxy.doors.chat import ChatDoor
from proxy.doors.front import Front
from proxy.doors.guard import Guard
from proxy.doors.openai import Manners, OpenAIDoor
from proxy.doors.operations import Operations, Standing
from proxy.doors.sessions import Sessions
from proxy.doors.table import Table
from proxy.doors.vapi import VapiDoor, Voice
from proxy.doors.vapi_events import VapiEvents
from proxy.doors.vapi_signing import Replays, Scheme, Signing
from proxy.doors.vapi_webhook import Webhook
from proxy.exposing import exposition
from proxy.gateway import Gateway, Stages
from proxy.instruments import Instruments
from proxy.logs import Writer
from proxy.personas import Personas
from proxy.policies.breakers import Breakers, Tripping
from proxy.policies.pressure import Pressure, memory_limit, resident
from proxy.policies.queues import Gate
from proxy.providers.registry import FACTS, provider
from proxy.secrecy import blanking
from proxy.serving.siblings import Siblings, agreed, share_catalog, shared_catalogs
from proxy.serving.workers import Place
from proxy.settings import ConfigError, Problem, Settings, Watcher, load
from proxy.settings.schema import Vapi
from proxy.stages.admission import Keyring
from proxy.stages.catalog import Catalog, Shelf
from proxy.stages.charting import Chart, configured
from proxy.stages.dispatch import Dispatch, Helpers
from proxy.stages.history import History
from proxy.stages.metering import Meter, Metrics
from proxy.stages.routing import Router, explained_test
from proxy.stages.screening import Screen
from proxy.store.contract import Store, StoreError
from proxy.store.sqlite import SqliteStore
from proxy.upstream.embedded import EmbeddedModel, unused_port
from proxy.upstream.sending import Upstreams
from proxy.upstream.tools import Tools

_LOADING = 5.0  # seconds that an embedded model may take before calls are taken all the same
_FOLLOW = 0.4  # seconds between two looks at what other processes decided
_FEEL = 0.5  # seconds between two looks at how the process stands

log = logging.getLogger("sluice")


@dataclass(frozen=True, slots=True)
class Plan:
    """What follows from a configuration alone, without anything running: serving and the commands both start here."""

    settings: Settings
    chart: Chart
    catalog: Catalog
    router: Router
    screen: Screen


@dataclass(frozen=True, slots=True)
class Plant:
    """One configuration at work."""

    plan: Plan
    gateway: Gateway
    front: Front


@dataclass(slots=True)
class Choices:
    """What operators decided while it runs, over what config.yaml says."""

    default_upstream: str | None = None
    instance: bytes = field(default_factory=lambda: b"sluice-" + secrets.token_hex(6).encode())  # of this process


def plan(settings: Settings, upstreams: Upstreams, bases: Mapping[str, str], choices: Choices) -> Plan:
    """The routing table and catalogue of a configuration."""
    providers = {name: provider(upstream.provider, upstream.options) for name, upstream in settings.upstreams.items()}
    chart = Chart(settings, providers, bases)
    shelves = {name: _shelf(chart, name) for name in settings.upstreams}
    catalog = Catalog(shelves, upstreams.fetch)
    defaults = {name: chart.default(name) for name in settings.upstreams}

    def default() -> Any:
        return defaults.get(default_upstream(settings, choices) or "")

    router = Router(chart.routes(), default, catalog.names)
    catalog.aliases = router.exact_names
    screen = Screen(
        catalog.look_up, lambda target: shelves[target.upstream].refusal(target.model), instance=choices.instance
    )
    return Plan(settings, chart, catalog, router, screen)


def default_upstream(settings: Settings, choices: Choices) -> str | None:
    """Where names go that no route takes: the operators' choice, the config's, or the only upstream."""
    if choices.default_upstream in settings.upstreams:
        return choices.default_upstream
    if settings.default_upstream is not None:
        return settings.default_upstream
    return next(iter(settings.upstreams)) if len(settings.upstreams) == 1 else None


def first_model(catalog: Catalog, upstream: str | None) -> str | None:
    """The first model of an upstream, as it can be called; None where none is known."""
    shelf = catalog.shelves.get(upstream or "")
    model = next(iter(shelf.models), None) if shelf else None
    return None if model is None else f"{upstream}/{model}"


def _shelf(chart: Chart, name: str) -> Shelf:
    upstream = chart.settings.upstreams[name]
    said = {model: configured(upstream, model) for model in {*upstream.limits, *upstream.prices}}
    return Shelf(chart.target(name), upstream.provider, said, upstream.models, upstream.strict_models, upstream.refresh)


def loaded(path: Path, environ: Mapping[str, str], server: Mapping[str, object] | None = None) -> Settings:
    """The settings of a file, its own routing tests passed. Raises ConfigError."""
    settings = load(path, environ, FACTS, server)
    router = plan(settings, Upstreams(), {}, Choices()).router
    problems = [
        Problem(0, 0, f"tests.{at}", wrong)
        for at, test in enumerate(settings.tests)
        if (wrong := explained_test(router, test.model, test.expect))
    ]
    if problems:
        raise ConfigError(str(path), problems)
    return settings


@dataclass(slots=True)
class Sluice:
    """The running proxy: what outlives reloads, and the plant of the configuration in force."""

    path: Path
    environ: Mapping[str, str]
    settings: Settings
    server: Mapping[str, object] = field(default_factory=dict)  # the command line's, over the file's
    draining: Callable[[], bool] = lambda: False
    writer: Writer | None = None  # of the log
    place: Place | None = None  # among several workers; None: it is alone
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    upstreams: Upstreams = field(default_factory=Upstreams)
    choices: Choices = field(default_factory=Choices)
    pressure: Pressure = field(default_factory=lambda: Pressure(memory_limit()))
    history: History = field(default_factory=History)
    vapi_events: VapiEvents = field(default_factory=VapiEvents)
    vapi_replays: Replays = field(default_factory=Replays)
    problem: str = ""  # of the last reload
    personas: Personas = field(default_factory=Personas)
    store: Store = field(init=False)
    control: Control = field(init=False)
    instruments: Instruments = field(default_factory=Instruments)
    metrics: Metrics = field(init=False)
    plant: Plant = field(init=False)
    sent: dict[str, int] = field(default_factory=dict)  # attempts by upstream, as dispatch counts them
    _breaker_labels: dict[tuple[str, str], str] = field(default_factory=dict, init=False)
    _embedded: dict[str, EmbeddedModel] = field(default_factory=dict, init=False)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list, init=False)
    _siblings: Siblings | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.metrics = Metrics(self.instruments)
        self.registry.register(self.instruments)
        self.upstreams.counted = lambda upstream: self.metrics.sent.labels(upstream).inc()
        self.store = opened(self.settings.store)
        self.control = Control(self, time.time())
        self._recall()
        self.plant = self._built(self.settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            await self.plant.front(scope, receive, send)

    def default_upstream(self) -> str | None:
        """Where names go that no route takes."""
        return default_upstream(self.settings, self.choices)

    def _recall(self) -> None:
        """What operators decided before the last restart."""
        try:
            self.choices.default_upstream = self.store.read("settings").get("default_upstream")
            self.personas.take(self.store.read("personas"))
        except StoreError as error:
            log.error("%s Operators' earlier choices are not in force.", error)

    async def reload(self) -> None:
        """Takes the file's configuration if it is good. Raises ConfigError, and then nothing has changed."""
        try:
            settings = await asyncio.to_thread(loaded, self.path, self.environ, self.server)
        except ConfigError as error:
            self.problem = str(error)
            self.metrics.config_valid.set(0)
            self.metrics.reloads.labels("failed").inc()
            log.error("config.yaml is not taken over, the last good one stays:\n%s", error)
            raise
        before, self.plant = self.plant, self._built(settings)
        for name, shelf in self.plant.plan.catalog.shelves.items():
            _keep_models(before.plan.catalog.shelves.get(name), shelf)
        self.settings, self.problem = settings, ""
        self.metrics.config_valid.set(1)
        self.metrics.reloads.labels("ok").inc()
        await self._restart()
        log.info("config.yaml is reloaded")

    def _built(self, settings: Settings) -> Plant:
        for name, upstream in settings.upstreams.items():
            if upstream.provider == "llamacpp" and not upstream.base_url and name not in self._embedded:
                port = agreed(self.place.folder, f"embedded-{name}", unused_port()) if self.place else 0
                self._embedded[name] = EmbeddedModel(None, "smollm2-135m-instruct", threads=1, port=port)
        made = plan(
            settings, self.upstreams, {name: model.base for name, model in self._embedded.items()}, self.choices
        )
        made.catalog.changed = self._note_standing
        self.personas.join(made)
        meter = Meter(self.metrics, made.catalog.known, self._told(settings))
        blank = blanking(settings.secrets())
        helpers = Helpers(made.screen.prepare, meter.asks, meter.dispatched, meter.attempted, blank)
        dispatch = Dispatch(self.upstreams, helpers, self._breakers(settings), gates(settings), sent=self.sent)
        keyring = Keyring(settings.access.keys == "required", settings.access.client_keys)
        gateway = Gateway(
            Stages(
                meter, keyring, made.router, dispatch, blank, self.pressure, self.choices.instance, settings.log.content
            )
        )
        return Plant(made, gateway, self._front(settings, made, gateway))

    def _told(self, settings: Settings) -> Callable[[Call, float], None]:
        """Who is told of calls that ended: the history, and the log where its level asks for calls."""
        writer, note = self.writer, self.history.note
        if writer is None or settings.log.level not in ("debug", "info"):
            return note

        def both(call: Call, seconds: float) -> None:
            writer.note(call, seconds)
            note(call, seconds)

        return both

    def _breakers(self, settings: Settings) -> Breakers:
        usual = settings.defaults.breaker
        of = {name: upstream.breaker or usual for name, upstream in settings.upstreams.items()}
        trippings = {name: Tripping(breaker.failures, breaker.open_for) for name, breaker in of.items()}
        return Breakers(trippings, self._note_breaker)

    def _note_breaker(self, upstream: str, model: str, is_open: bool) -> None:
        # The catalogue may come to know the model while the breaker is open: the label stays what it was.
        known = self.plant.plan.catalog.known(upstream, model)
        label = self._breaker_labels.setdefault((upstream, model), model if known else "other")
        self.metrics.breaker.labels(upstream, label).set(1 if is_open else 0)
        if not is_open:
            del self._breaker_labels[upstream, model]
        log.warning("breaker of %s/%s %s", upstream, model, "opened" if is_open else "closed")

    def _front(self, settings: Settings, made: Plan, gateway: Gateway) -> Front:
        manners = Manners(settings.server.max_body, settings.server.ping)
        operations = Operations(self._standings, self.draining, self._exposition)
        openai = OpenAIDoor(gateway, made.catalog, manners)
        sessions = Sessions(settings.access.admin_token)
        admin = AdminDoor(self.control, sessions)
        chat = ChatDoor(gateway, manners, lambda: first_model(made.catalog, default_upstream(settings, self.choices)))
        vapi = self._vapi(settings.vapi, gateway, manners)
        doors = (openai, chat, vapi, operations, admin)
        table = Table([endpoint for door in doors for endpoint in door.endpoints()])
        guard = Guard(settings.access.admin_token, settings.server.host, settings.access.metrics == "admin", sessions)
        return Front(table, guard.checks(), frozenset(settings.server.cors))

    def _vapi(self, vapi: Vapi, gateway: Gateway, manners: Manners) -> VapiDoor:
        ask = Tools().ask
        tools = {name: partial(ask, tool.url, tool.timeout) for name, tool in vapi.tools.items()}
        hook = Webhook(vapi.assistant, tools, self.vapi_events, lambda kind: self.metrics.vapi.labels(kind).inc())
        signing = None
        if signed := vapi.hmac:
            scheme = Scheme(signed.header, signed.timestamp_header, signed.algorithm, signed.prefix)
            signing = Signing(vapi.secret, scheme, self.vapi_replays)
        return VapiDoor(gateway, manners, Voice(vapi.secret, vapi.model, vapi.apology), hook, signing)

    def _standings(self) -> list[Standing]:
        return [
            Standing(name, shelf.provider, not shelf.target.off, not (shelf.trouble or self.starting(name)),
                     shelf.trouble or self.starting(name))
            for name, shelf in self.plant.plan.catalog.shelves.items()
        ]  # fmt: skip

    def starting(self, name: str) -> str:
        """Why an embedded model does not answer yet; "" for all others."""
        model = self._embedded.get(name)
        return "" if model is None or model.state == "ready" else model.state

    def _note_standing(self, shelf: Shelf) -> None:
        self.metrics.up.labels(shelf.target.upstream).set(0 if shelf.trouble else 1)
        if self.place is not None and shelf.state == "fetched":
            share_catalog(self.place.folder, shelf.target.upstream, list(shelf.models.values()))

    async def _exposition(self) -> tuple[bytes, str]:
        if self._siblings is not None:
            self.instruments.others = await self._siblings.gather()
        return exposition(self.registry)

    async def _live(self, receive: Receive, send: Send) -> None:
        """ASGI's lifespan: what runs beside the calls."""
        await receive()
        await self._begin()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for model in self._embedded.values():
            await model.stop()
        await self.upstreams.aclose()
        if self._siblings is not None:
            await self._siblings.close()
        await asyncio.to_thread(self.store.close)
        await send({"type": "lifespan.shutdown.complete"})

    async def _begin(self) -> None:
        """Starts what runs beside the calls; of several workers one alone does what is to be done once."""
        place, start = self.place, asyncio.create_task
        if place is None or place.leads:
            for model in self._embedded.values():
                await model.start()
            for model in self._embedded.values():
                await model.settled(_LOADING)
            self._tasks = [start(self.plant.plan.catalog.run())]
        else:
            self._tasks = [start(self._take_catalogs(place.folder))]
        self._tasks += [start(self._watch()), start(self._feel()), start(self._follow())]
        if place is not None:
            self._siblings = Siblings(place.folder, f"{place.index}-{os.getpid()}", self.instruments)
            await self._siblings.open()
            self._tasks.append(start(self._siblings.keep_saving()))

    async def _take_catalogs(self, folder: Path) -> None:
        """Takes over the catalogues that the leading worker fetches."""
        seen: dict[str, float] = {}
        while True:
            for name, models in (await asyncio.to_thread(shared_catalogs, folder, seen)).items():
                if shelf := self.plant.plan.catalog.shelves.get(name):
                    shelf.take(models)
            await asyncio.sleep(_FOLLOW)

    async def _follow(self) -> None:
        """Takes over what operators decide at other workers, or other machines with the same store."""
        seen = -1
        while True:
            try:
                version = await asyncio.to_thread(self.store.version)
                if version != seen and seen >= 0:
                    await asyncio.to_thread(self._recall)
                    self.personas.join(self.plant.plan)
                seen = version
            except StoreError as error:
                log.debug("%s", error)
            await asyncio.sleep(_FOLLOW)

    async def _feel(self) -> None:
        """Looks after how late the event loop is, and how much memory is taken."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _FEEL
            await asyncio.sleep(_FEEL)
            self.pressure.note(loop.time() - due, resident())

    async def _watch(self) -> None:
        async for _ in Watcher(self.path, (self.path.parent / ".env",)).changes():
            try:
                await self.reload()
            except ConfigError:
                pass  # told already, and shown

    async def _restart(self) -> None:
        """Background work of the new plant in place of the old one's."""
        if not self._tasks or (self.place is not None and not self.place.leads):
            return
        self._tasks[0].cancel()
        for model in self._embedded.values():
            if model.state == "stopped":
                await model.start()
        self._tasks[0] = asyncio.create_task(self.plant.plan.catalog.run())


def opened(store: str) -> Store:
    """The store that config.yaml names; nothing is opened before it is needed."""
    return SqliteStore(Path(store.removeprefix("sqlite:///")))


def gates(settings: Settings) -> dict[str, Gate]:
    """A gate for each upstream that takes only so many calls at a time."""
    return {
        name: Gate(name, upstream.max_in_flight, upstream.max_wait)
        for name, upstream in settings.upstreams.items()
        if upstream.max_in_flight
    }


def _keep_models(before: Shelf | None, now: Shelf) -> None:
    """A reload keeps what was fetched, where the upstream is still the same place."""
    if before is not None and before.target.base == now.target.base and before.state == "fetched" == before.state:
        if now.fixed is None and before.fetched_at is not None and not now.target.off:
            now.take(before.models.values())
            now.fetched_at, now.trouble = before.fetched_at, before.trouble
