"""Decides for each target whether it may get a call, and makes the order for it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from proxy.call import Call
from proxy.errors import SluiceError
from proxy.policies.limits import Counter, misfit, need_of
from proxy.policies.routes import Route
from proxy.providers.contract import Model, Order, Target
from proxy.stages.ordering import Draft, rewritten


class Shelf(Protocol):
    """What is known of the models of one upstream."""

    def look_up(self, model: str) -> Model | None:
        """What is known of one model."""
        ...

    def refusal(self, model: str) -> SluiceError | None:
        """Why the upstream's catalogue forbids the model; None: it does not."""
        ...


@dataclass(frozen=True, slots=True)
class Screen:
    """Checks a target before anything is sent to it; the same for a real call and for `explain`."""

    shelves: Mapping[str, Shelf]  # by upstream
    instance: bytes = b"sluice"  # names this proxy in cdn-loop
    counter: Callable[[str], Counter | None] = lambda model: None  # the token counter of a model, if there is one

    def prepare(self, call: Call, route: Route) -> "Prepared":
        """The call after the route's rules, ready to be made into an order for each target."""
        body, headers, changes = rewritten(call, route, self.instance)
        return Prepared(call, body, headers, changes, self)


@dataclass(slots=True)  # not frozen: that would cost half a microsecond per call
class Prepared(Draft):
    """A call from which an order for each suitable target can be made."""

    screen: Screen

    def context(self, target: Target) -> int | None:
        """The context length of the target's model in tokens, where it is known."""
        model = self.screen.shelves[target.upstream].look_up(target.model)
        return model.context if model else None

    def order(self, target: Target) -> Order:
        """The call for this target. Raises the reason why the target cannot be asked."""
        call = self.call
        if target.off:
            raise SluiceError(
                "upstream_not_configured", f"The upstream {target.upstream} is off: {target.off}.", again="next"
            )
        endpoints = target.provider.endpoints
        if endpoints is not None and not call.chat and call.endpoint not in endpoints:
            raise SluiceError(
                "endpoint_not_supported",
                f"The upstream {target.upstream} ({target.provider.name}) has no /v1/{call.endpoint}.",
                again="next",
            )
        shelf = self.screen.shelves[target.upstream]
        if refused := shelf.refusal(target.model):
            raise refused
        model = shelf.look_up(target.model)
        if not target.provider.wants_need and not (model and _bounded(model)):
            return self.ordered(target, model)
        need = need_of(self.parsed(), self.screen.counter(target.model))
        if model and (too_much := misfit(need, model)) and not target.provider.copes(too_much, self.parsed()):
            raise too_much
        return self.ordered(target, model, need.total)


def _bounded(model: Model) -> bool:
    """Whether any limit of the model is known."""
    return bool(model.context or model.output or model.inputs is not None or model.tools is False)
