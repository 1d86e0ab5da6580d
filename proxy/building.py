"""Builds what serves one configuration: stages into a gateway, doors into a table of endpoints behind the front."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from proxy.call import Call
from proxy.doors.admin import AdminDoor
from proxy.doors.answering import DoorSettings
from proxy.doors.chat import ChatDoor
from proxy.doors.front import Front
from proxy.doors.guard import Guard
from proxy.doors.keys import KeysDoor
from proxy.doors.openai import OpenAIDoor
from proxy.doors.operations import Operations
from proxy.doors.sessions import Sessions
from proxy.doors.table import Table
from proxy.doors.vapi import VapiDoor, VoiceSettings
from proxy.doors.vapi_signing import Scheme, Signing
from proxy.doors.vapi_webhook import Webhook
from proxy.gateway import Gateway, Stages
from proxy.planning import Plan, default_upstream, first_model, plan
from proxy.policies.breakers import Breakers, Tripping
from proxy.policies.queues import Gate
from proxy.secrecy import blanking
from proxy.serving.folder import agree_on
from proxy.settings import Settings
from proxy.settings.schema import Vapi
from proxy.stages.admission import Keyring
from proxy.stages.caching import Cache
from proxy.stages.dispatch import Dispatch, Hooks
from proxy.stages.metering import Meter
from proxy.upstream.embedded import packaged, unused_port
from proxy.upstream.tools import Tools
from proxy.warning import dangling_models

if TYPE_CHECKING:
    from proxy.app import Sluice

log = logging.getLogger("sluice")


@dataclass(frozen=True, slots=True)
class Runtime:
    """One configuration while it serves calls."""

    plan: Plan
    gateway: Gateway
    front: Front


def build(sluice: "Sluice", settings: Settings, cache: Cache) -> Runtime:
    """The runtime of a configuration, connected to the process's lasting state."""
    _make_embedded(sluice, settings)
    bases = {name: model.base for name, model in sluice.embedded.items()}
    made = plan(settings, sluice.upstreams, bases, sluice.process)
    sluice.personas.join(made)
    for warning in dangling_models(made):
        log.warning("%s", warning)
    catalog, blank = made.catalog, blanking(settings.secrets())
    catalog.changed, catalog.blank = sluice.health.note, blank
    meter = Meter(
        sluice.metrics, catalog.known, catalog.prices, _call_listener(sluice, settings), sluice.ledger.books.note
    )
    hooks = Hooks(made.screen.prepare, meter.attempt_began, meter.attempt_ended, blank, sluice.health.show)
    sent = sluice.metrics.dispatched
    dispatch = Dispatch(sluice.upstreams, hooks, _breakers(sluice, settings), gates(settings), sent=sent)
    keyring = Keyring(settings.access.keys == "required", settings.access.client_keys, sluice.keys.admit)
    stages = Stages(
        meter,
        keyring,
        made.router,
        cache,
        dispatch,
        blank,
        sluice.pressure,
        instance=sluice.process.instance,
        content=settings.log.content,
        tracing=sluice.tracing,
    )
    gateway = Gateway(stages)
    return Runtime(made, gateway, _front(sluice, settings, made, gateway))


def _make_embedded(sluice: "Sluice", settings: Settings) -> None:
    """Makes the embedded models that do not exist yet. They are not started here."""
    for name, upstream in settings.upstreams.items():
        if upstream.embedded and name not in sluice.embedded:
            port = agree_on(sluice.place.folder, f"embedded-{name}", unused_port()) if sluice.place else 0
            sluice.embedded[name] = packaged(port)


def _call_listener(sluice: "Sluice", settings: Settings) -> Callable[[Call, float], None]:
    """What is called with every ended call: the history, and the log as far as its level asks for it."""
    writer, note, level = sluice.writer, sluice.history.note, settings.log.level
    if writer is None or level == "error":
        return note

    def both(call: Call, seconds: float) -> None:
        if level != "warning" or call.trace.failure is not None:
            writer.note(call, seconds)
        note(call, seconds)

    return both


def _breakers(sluice: "Sluice", settings: Settings) -> Breakers:
    usual = settings.defaults.breaker
    of = {name: upstream.breaker or usual for name, upstream in settings.upstreams.items()}
    trippings = {name: Tripping(breaker.failures, breaker.open_for) for name, breaker in of.items()}
    return Breakers(trippings, sluice.health.note_breaker)


def _front(sluice: "Sluice", settings: Settings, made: Plan, gateway: Gateway) -> Front:
    access, host, cors = settings.access, settings.server.host, frozenset(settings.server.cors)
    door_settings, sessions = DoorSettings(settings.server.max_body, settings.server.ping), Sessions(access.admin_token)

    def usual_model() -> str | None:
        return first_model(made.catalog, default_upstream(settings, sluice.process.default_upstream))

    doors = (
        OpenAIDoor(gateway, made.catalog, door_settings),
        ChatDoor(gateway, door_settings, usual_model),
        _vapi(sluice, settings.vapi, gateway, door_settings),
        Operations(sluice.health.all, sluice.draining, sluice.exposition),
        AdminDoor(sluice.control, sessions),
        KeysDoor(sluice.accounts),
        sluice.pages,
        sluice.documents,
    )
    table = Table([endpoint for door in doors for endpoint in door.endpoints()])
    guard = Guard(access.admin_token, host, access.metrics == "admin", sessions, access.keys == "open", cors)
    return Front(table, guard.checks(), cors)


def _vapi(sluice: "Sluice", vapi: Vapi, gateway: Gateway, door_settings: DoorSettings) -> VapiDoor:
    ask = Tools().ask
    tools = {name: partial(ask, tool.url, tool.timeout) for name, tool in vapi.tools.items()}
    hook = Webhook(vapi.assistant, tools, sluice.vapi_events, lambda kind: sluice.metrics.vapi.labels(kind).inc())
    signing = None
    if signed := vapi.hmac:
        scheme = Scheme(signed.header, signed.timestamp_header, signed.algorithm, signed.prefix)
        signing = Signing(vapi.secret, scheme, sluice.vapi_replays)
    return VapiDoor(gateway, door_settings, VoiceSettings(vapi.secret, vapi.model, vapi.apology), hook, signing)


def gates(settings: Settings) -> dict[str, Gate]:
    """A concurrency limit for each upstream that has `max_in_flight`."""
    return {
        name: Gate(name, upstream.max_in_flight, upstream.max_wait)
        for name, upstream in settings.upstreams.items()
        if upstream.max_in_flight
    }
