"""Reloads config.yaml when it changes: completely, or not at all."""

import asyncio
import logging
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from proxy.building import Runtime, build
from proxy.cache_setup import uses_similarity
from proxy.caches.opening import MissingExtra
from proxy.planning import keep_models, load_settings
from proxy.settings import ConfigError, Problem, Settings, Watcher
from proxy.stages.caching import Cache

if TYPE_CHECKING:
    from proxy.app import Sluice

_READ_AT_START: Final = (
    *("server.host", "server.port", "server.workers", "server.drain", "server.timeouts"),
    *("store", "log.format"),
)  # keys of config.yaml that take effect only at a restart

log = logging.getLogger("sluice")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A changed configuration that is valid and built, but not yet in force."""

    written: Settings  # what the file says
    settings: Settings  # the same, but with the old values of keys that need a restart
    cache: Cache
    runtime: Runtime


@dataclass(slots=True)
class Reloads:
    """Watches config.yaml and puts changes in force; running calls finish with the configuration they began with."""

    sluice: "Sluice"
    problem: str = ""  # error of the last reload; "": it succeeded
    _watcher: Watcher = field(init=False)
    _started: Settings = field(init=False)  # what the server was started with
    _written: Settings = field(init=False)  # what the file said at the last reload
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    def __post_init__(self) -> None:
        path = self.sluice.path
        self._watcher = Watcher(path, (path.parent / ".env",))  # watches for changes from here on
        self._started = self._written = self.sluice.settings

    async def watch(self) -> None:
        """Reloads whenever the file changes, until cancelled."""
        async for _ in self._watcher.changes():
            await self.attempt()

    async def attempt(self) -> bool:
        """Reloads the file if it is valid; False: it is not, which is logged and shown on /admin."""
        try:
            await self.reload()
        except ConfigError:
            return False
        return True

    async def reload(self) -> None:
        """Reloads the file if it is valid. Raises ConfigError, and then nothing has changed.

        Reloads run one at a time: the one that read the file first must not be the last to take effect.
        """
        async with self._turn:
            try:
                candidate = await self._read()
            except ConfigError as error:
                self._refuse(error)
                raise
            await self._put_in_force(candidate)

    def _refuse(self, error: ConfigError) -> None:
        self.problem = str(error)
        self.sluice.metrics.config_valid.set(0)
        self._count("failed")
        log.error("config.yaml was not reloaded, the last valid one stays in force:\n%s", error)

    async def _read(self) -> Candidate:
        """What the file says now. Raises ConfigError for every failure."""
        sluice = self.sluice
        try:
            await asyncio.to_thread(self._watcher.changed)  # the watcher need not report what is read here
            written = await asyncio.to_thread(load_settings, sluice.path, sluice.environ, sluice.server)
            settings, bound = written, self._started.server.host
            if written.server.host != bound:  # still listened on until a restart, so access is checked for it too
                server = {**sluice.server, "host": bound}
                settings = await asyncio.to_thread(load_settings, sluice.path, sluice.environ, server)
            before = sluice.settings
            same_cache = (settings.cache, uses_similarity(settings)) == (before.cache, uses_similarity(before))
            # In a thread: what `similar` imports would block the event loop.
            cache = sluice.cache if same_cache else await asyncio.to_thread(sluice.cache_for, settings)
            return Candidate(written, settings, cache, build(sluice, settings, cache))
        except ConfigError:
            raise
        except MissingExtra as error:
            raise ConfigError(str(sluice.path), [Problem(0, 0, "cache.store", str(error))]) from error
        except Exception as error:  # the watch must survive any file
            log.exception("config.yaml cannot be applied")
            problem = Problem(0, 0, "", f"cannot be applied ({type(error).__name__}); see the log for details")
            raise ConfigError(str(sluice.path), [problem]) from error

    async def _put_in_force(self, candidate: Candidate) -> None:
        sluice, settings, runtime = self.sluice, candidate.settings, candidate.runtime
        if sluice.cache is not candidate.cache:
            sluice.upstreams.later(sluice.cache.aclose())
            candidate.cache.begin()
        before, known = sluice.runtime, sluice.settings.upstreams
        sluice.cache, sluice.runtime = candidate.cache, runtime
        same = {name for name, upstream in settings.upstreams.items() if upstream == known.get(name)}
        runtime.gateway.stages.dispatch.take_over(before.gateway.stages.dispatch, same)
        for name, shelf in runtime.plan.catalog.shelves.items():
            keep_models(before.plan.catalog.shelves.get(name), shelf)
        for name in known:
            if name not in same:
                sluice.metrics.up.forget(name)  # unknown until it is asked again
        self._warn_of_what_waits(candidate.written)
        if sluice.writer is not None:
            log.setLevel(settings.log.level.upper())
        sluice.settings, self.problem = settings, ""
        sluice.metrics.config_valid.set(1)
        self._count("ok")
        await sluice.fetch_anew()
        log.info("config.yaml was reloaded")

    def _count(self, result: str) -> None:
        if self.sluice.leads:  # all workers reload together: that is one reload
            self.sluice.metrics.reloads.labels(result).inc()

    def _warn_of_what_waits(self, written: Settings) -> None:
        """Warns of each key that needs a restart, once: where the file differs from the start and the last reload."""
        for key in _READ_AT_START:
            if attrgetter(key)(written) not in (attrgetter(key)(self._started), attrgetter(key)(self._written)):
                log.warning("%s has changed: a restart is needed", key)
        if self._started.server.max_body < written.server.max_body != self._written.server.max_body:
            log.warning("server.max_body is larger than at startup: a restart is needed")
        self._written = written
