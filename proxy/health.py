"""Health of the upstreams, reported to operators, Prometheus and the other workers."""

import asyncio
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from proxy.doors.operations import HealthLine
from proxy.serving.folder import SharedCatalog, share_catalog, shared_catalogs
from proxy.stages.catalog import Shelf

if TYPE_CHECKING:
    from proxy.app import Sluice

_LOOK = 0.4  # seconds between two reads of what the leading worker learnt

log = logging.getLogger("sluice")


@dataclass(slots=True)
class Health:
    """The health of every upstream of the configuration in force."""

    sluice: "Sluice"
    _breaker_labels: dict[tuple[str, str], str] = field(default_factory=dict)

    def all(self) -> list[HealthLine]:
        """One line per upstream, for /health."""
        return [
            HealthLine(name, shelf.provider, not shelf.target.off, not trouble, trouble)
            for name, shelf in self.sluice.runtime.plan.catalog.shelves.items()
            for trouble in [self.trouble(name, shelf)]
        ]

    def trouble(self, name: str, shelf: Shelf) -> str:
        """Why an upstream does not answer; "": it does. For an embedded model, its process state takes precedence."""
        sluice = self.sluice
        model = sluice.embedded.get(name) if sluice.place is None or sluice.place.leads else None
        trouble = shelf.trouble if model is None or model.state == "ready" else model.state
        return trouble or ("It refuses our key." if name in sluice.runtime.gateway.stages.dispatch.refused else "")

    def show(self, name: str) -> None:
        """Updates sluice_upstream_up, unless the upstream exists only for calls that began before a reload."""
        if shelf := self.sluice.runtime.plan.catalog.shelves.get(name):
            self.sluice.metrics.up.labels(name).set(0 if self.trouble(name, shelf) else 1)

    def note(self, shelf: Shelf) -> None:
        """Reports a fetched catalogue, or a failed fetch, to Prometheus and the other workers."""
        self._learnt(shelf.target.upstream)
        if self.sluice.place is not None:
            models = list(shelf.models.values()) if shelf.fetched_at is not None else None
            learnt = SharedCatalog(shelf.target.base, models, shelf.trouble, shelf.said)
            share_catalog(self.sluice.place.folder, shelf.target.upstream, learnt)

    def note_breaker(self, upstream: str, model: str, is_open: bool) -> None:
        """Reports that a breaker opened or closed."""
        # The label is kept while the breaker is open, even if the catalogue comes to list the model meanwhile.
        known = self.sluice.runtime.plan.catalog.known(upstream, model)
        label = self._breaker_labels.setdefault((upstream, model), model if known else "other")
        self.sluice.metrics.breaker.labels(upstream, label).set(1 if is_open else 0)
        if not is_open:
            self._breaker_labels.pop((upstream, model), None)
        log.warning("breaker of %s/%s %s", upstream, model, "opened" if is_open else "closed")

    async def follow(self, folder: Path) -> None:
        """Takes over what the leading worker learns about the upstreams."""
        plan, seen = self.sluice.runtime.plan, dict[str, float]()
        while True:
            if plan is not self.sluice.runtime.plan:  # after a reload the new plan must read everything again
                plan, seen = self.sluice.runtime.plan, {}
            for name, learnt in (await asyncio.to_thread(shared_catalogs, folder, seen)).items():
                shelf = plan.catalog.shelves.get(name)
                if shelf and not shelf.target.off and shelf.target.base == learnt.base:
                    if learnt.models is not None or not learnt.trouble:
                        shelf.take(learnt.models)
                    shelf.trouble, shelf.said = learnt.trouble, learnt.said
                    self._learnt(name)
            await asyncio.sleep(_LOOK)

    def _learnt(self, name: str) -> None:
        self.show(name)
        self.sluice.runtime.gateway.stages.meter.forget()
