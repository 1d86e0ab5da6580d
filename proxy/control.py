"""What operators read and change while Sluice runs: the logic behind `doors/admin.py`."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from proxy import __version__
from proxy.call import Call
from proxy.decisions import store_errors
from proxy.errors import SluiceError
from proxy.personas import persona
from proxy.settings import ConfigError
from proxy.stages.catalog import Shelf
from proxy.stages.explaining import explain, shown_whole

if TYPE_CHECKING:
    from proxy.app import Sluice

log = logging.getLogger("sluice")


@dataclass(slots=True)
class Control:
    """Reads the current runtime. Changes are written to the store first, so that they survive a restart."""

    sluice: "Sluice"
    started: float

    def provider_settings(self) -> dict[str, Any]:
        """`{default_upstream, upstreams: [{name, provider, live, reason, models}]}`."""
        plan = self.sluice.runtime.plan
        return {
            "default_upstream": self.sluice.default_upstream(),
            "upstreams": [
                {
                    "name": name,
                    "provider": shelf.provider,
                    "live": not shelf.target.off,
                    "reason": shelf.target.off or None,
                    "models": len(shelf.models),
                }
                for name, shelf in plan.catalog.shelves.items()
            ],
        }

    async def switch_default(self, upstream: str | None) -> None:
        """Switches the default upstream, now and for later starts.

        Raises 400 for an unknown name, 409 for one that is off.
        """
        if upstream is not None:
            shelf = self.sluice.runtime.plan.catalog.shelves.get(upstream)
            if shelf is None:
                raise SluiceError(
                    "client_invalid_request", f"There is no upstream {upstream!r}.", param="default_upstream"
                )
            if shelf.target.off:
                raise SluiceError(
                    "upstream_not_configured", f"The upstream {upstream} is off: {shelf.target.off}.", status=409
                )
        await self._write("settings", "default_upstream", upstream)
        self.sluice.process.default_upstream = upstream
        log.info("default upstream switched to %s", upstream or f"config.yaml's ({self.sluice.default_upstream()})")

    def models(self, upstream: str | None) -> list[dict[str, Any]]:
        """The models that can be called, as /v1/models lists them."""
        return self.sluice.runtime.plan.catalog.entries(upstream)

    def personas(self, upstream: str | None) -> list[dict[str, Any]]:
        """The personas, of one upstream or all."""
        return self.sluice.personas.listed(self.sluice.runtime.plan, upstream)

    async def add_persona(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Creates or replaces a persona. Raises 400 for invalid fields, 409 for a name that config.yaml has."""
        made, plan = persona(fields), self.sluice.runtime.plan
        if made.name in plan.settings.personas:
            raise SluiceError(
                "client_invalid_request",
                f"The persona {made.name} is defined in config.yaml.",
                status=409,
                param="name",
            )
        shelf = plan.catalog.shelves.get(made.upstream)
        if shelf is None:
            raise SluiceError("client_invalid_request", f"There is no upstream {made.upstream!r}.", param="upstream")
        if refused := shelf.refusal(made.model):
            raise SluiceError("client_invalid_request", refused.message, param="model")
        await self._write("personas", made.name, made.text())
        self.sluice.personas.made[made.name] = made
        self.sluice.personas.join(self.sluice.runtime.plan)  # read again: a reload may have replaced it meanwhile
        log.info("persona %s created for %s", made.name, made.upstream)
        return next(each for each in self.personas(None) if each["name"] == made.name)

    async def delete_persona(self, name: str) -> None:
        """Deletes a persona of the store. Raises 404, and 409 for one of config.yaml."""
        plan = self.sluice.runtime.plan
        if name in plan.settings.personas:
            raise SluiceError("client_invalid_request", f"The persona {name} is defined in config.yaml.", status=409)
        if name not in self.sluice.personas.made:
            raise SluiceError("client_invalid_request", f"There is no persona {name!r}.", status=404)
        await self._write("personas", name, None)
        self.sluice.personas.made.pop(name, None)  # a concurrent request may have deleted it already
        self.sluice.personas.join(self.sluice.runtime.plan)
        log.info("persona %s deleted", name)

    @property
    def sibling_answers(self) -> dict[str, Callable[..., object]]:
        """What other workers can ask this one for, by the word that names the question."""
        sluice = self.sluice
        return {
            "calls": sluice.history.calls,
            "steps": sluice.history.shared_steps,
            "busy": self.busy,
            "cache": lambda: sluice.cache.local_stats(),  # looked up late: a reload may replace the cache
            "reload": sluice.reloads.attempt,
            "clear": lambda route, model: sluice.cache.clear(route, model),
        }

    async def overview(self) -> dict[str, Any]:
        """All data of the admin page."""
        sluice, plan, problem = self.sluice, self.sluice.runtime.plan, self.sluice.reloads.problem
        # All at once: a worker that is slow to answer is waited for once.
        busy, steps, cached = await asyncio.gather(*map(sluice.ask_siblings, ("busy", "steps", "cache")))
        busy.insert(0, self.busy())
        return {
            "version": __version__,
            "started": self.started,
            "now": time.time(),
            "config": {"file": sluice.path.name, "valid": not problem, "problem": problem or None},
            "default_upstream": sluice.default_upstream(),
            "configured_default": plan.settings.default_upstream,
            "upstreams": [self._upstream(name, shelf, busy) for name, shelf in plan.catalog.shelves.items()],
            "routes": [shown_whole(route) for route in plan.router.routes],
            "traffic": sluice.history.traffic(steps),
            "cache": await sluice.cache.stats(cached),
            "vapi": sluice.vapi_events.as_json() if plan.settings.vapi.secret else None,
            "keys": plan.settings.access.keys,
            "login": bool(plan.settings.access.admin_token),
        }

    def busy(self) -> dict[str, Any]:
        """Calls in flight and open breakers of this worker.

        `{UPSTREAM: {in_flight, breakers: [{model, cause, retry_in}]}}`
        """
        stages = self.sluice.runtime.gateway.stages
        found: dict[str, Any] = {
            name: {"in_flight": stages.meter.under_way(name), "breakers": []} for name in self.sluice.settings.upstreams
        }
        for upstream, model, breaker in stages.dispatch.breakers.open():
            cause, left = breaker.cause, (breaker.open_until or 0.0) - time.monotonic()
            told = {"model": model, "cause": cause.message if cause else None, "retry_in": max(0.0, left)}
            if upstream in found:  # else a reload has removed it
                found[upstream]["breakers"].append(told)
        return found

    def _upstream(self, name: str, shelf: Shelf, busy: list[dict[str, Any]]) -> dict[str, Any]:
        """One upstream as the admin page shows it; `busy`: one answer of `Control.busy` per worker."""
        trouble = self.sluice.health.trouble(name, shelf)
        here = [told[name] for told in busy if name in told]  # a worker that has not reloaded yet may not know it
        return {
            "name": name,
            "provider": shelf.provider,
            "live": not shelf.target.off,
            "healthy": not trouble,
            "reason": (shelf.said if trouble == shelf.trouble else "") or trouble or None,
            "catalog": shelf.state,
            "models": len(shelf.models),
            "in_flight": sum(told["in_flight"] for told in here),
            "breakers": list({breaker["model"]: breaker for told in here for breaker in told["breakers"]}.values()),
        }

    def explain(self, call: Call) -> dict[str, Any]:
        """What would happen to the call; nothing is sent."""
        plan = self.sluice.runtime.plan
        return explain(plan.router, plan.screen, call)

    async def reload(self) -> dict[str, Any]:
        """Reloads config.yaml, in the other workers as well. Raises 400 with its problems."""
        try:
            await self.sluice.reloads.reload()
        except ConfigError as error:
            raise SluiceError("client_invalid_request", f"config.yaml was not loaded: {error}") from None
        finally:
            await self.sluice.ask_siblings("reload")
        return {"reloaded": True}

    async def clear_cache(self, route: str | None, model: str | None) -> dict[str, Any]:
        """Clears the cache: of a route, of an upstream's model, or all of it."""
        cleared = await self.sluice.cache.clear(route, model)
        others = await self.sluice.ask_siblings("clear", route, model)
        cleared = None if cleared is None else sum(others, cleared)
        log.info("cache cleared (route %s, model %s)", route or "any", model or "any")
        return {"cleared": cleared}

    async def calls(self) -> list[dict[str, Any]]:
        """The last calls, newest first."""
        return self.sluice.history.calls(await self.sluice.ask_siblings("calls"))

    async def _write(self, kind: str, name: str, text: str | None) -> None:
        with store_errors():
            await self.sluice.decisions.keep(kind, name, text)
