"""Says of each target whether it may be asked for a call, and makes the order for it."""

from collections.abc import Callable
from dataclasses import dataclass

from proxy.call import Call
from proxy.errors import SluiceError
from proxy.policies.limits import Counter, misfit, need_of
from proxy.policies.routes import Route
from proxy.providers.contract import Model, Order, Target
from proxy.stages.ordering import Draft, drafted, parsed


@dataclass(frozen=True, slots=True)
class Screen:
    """What is known of targets, asked before anything is sent; the same for a call and for `explain`."""

    look_up: Callable[[Target], Model | None]
    refusal: Callable[[Target], SluiceError | None]  # by the upstream's catalogue
    counter: Callable[[str], Counter | None] = lambda model: None  # the tokenizer of a model, where there is one

    def draft(self, call: Call, route: Route) -> Draft:
        """The call after its route's rules."""
        return drafted(call, route)

    def order(self, draft: Draft, target: Target) -> Order:
        """The call as this target is to get it. Raises why the target cannot be asked."""
        if target.off:
            raise SluiceError(
                "upstream_not_configured", f"The upstream {target.upstream} is off: {target.off}.", again="next"
            )
        endpoints = target.provider.endpoints
        if not draft.call.chat and endpoints is not None and draft.call.endpoint not in endpoints:
            raise SluiceError(
                "endpoint_not_supported",
                f"The upstream {target.upstream} ({target.provider.name}) has no /v1/{draft.call.endpoint}.",
                again="next",
            )
        if refused := self.refusal(target):
            raise refused
        model = self.look_up(target)
        if not (model and (model.context or model.output)) and not target.provider.wants_need:
            return draft.order(target, model)
        need = need_of(fields_of(draft), self.counter(target.model))
        if model and (too_much := misfit(need, model)):
            raise too_much
        return draft.order(target, model, need.total)


def fields_of(draft: Draft) -> dict[str, object]:
    """The body as the route's rules left it, parsed."""
    return dict(draft.call.fields) if draft.body is draft.call.body else parsed(draft.body)


def verdict(screen: Screen, call: Call, route: Route, target: Target) -> tuple[Order | None, SluiceError | None]:
    """The order, or why there is none: what `explain` shows of a target."""
    try:
        return screen.order(screen.draft(call, route), target), None
    except SluiceError as refusal:
        return None, refusal
