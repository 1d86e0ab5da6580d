"""What is known of each upstream: its models with limits and prices, and whether it answers."""

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from proxy.errors import SluiceError
from proxy.naming import suggestion
from proxy.policies.routes import Route
from proxy.providers.contract import Answer, Model, Request, Target
from proxy.secrecy import Blank

log = logging.getLogger("sluice.catalog")

_FIRST_RETRY: Final = 1.0  # seconds after a failed fetch; doubles up to the refresh time
_PATIENCE: Final = 20.0  # seconds that one request for a catalogue may take
_OTHER_WORK: Final = re.compile(
    r"embed|rerank|moderation|whisper|transcribe|(?<![a-z])tts(?![a-z])|dall-e|gpt-image|sora-|realtime|babbage|davinci",
    re.IGNORECASE,
)  # parts of names of models that do not chat: most lists hold names alone
_ODD: Final = (TypeError, ValueError, AttributeError, LookupError, ArithmeticError, RecursionError)
"""Exceptions of parsing a list whose members have unexpected types."""

State = Literal["fixed", "fetched", "unknown", "off"]
Fetch = Callable[[Target, Request, float], Awaitable[Answer]]


@dataclass(slots=True)
class Shelf:
    """The models of one upstream. `target` is where its catalogue is fetched from."""

    target: Target
    provider: str  # the name in config.yaml
    configured: Mapping[str, Model]  # limits and prices of the config, by model
    fixed: tuple[str, ...] | None = None  # `models:` of the config
    strict: bool = False
    refresh: float = 300.0
    named: frozenset[str] = frozenset()  # models that routes and personas of config.yaml name
    models: dict[str, Model] = field(default_factory=dict)
    state: State = "unknown"
    fetched_at: float | None = None  # Unix seconds of the last good fetch
    trouble: str = ""  # why the upstream is unhealthy, in our own words; "": it is healthy
    said: str = ""  # the same with the upstream's words, which may name addresses: for operators

    def __post_init__(self) -> None:
        if self.fixed is not None:
            self.models = {name: self._known(Model(name)) for name in self.fixed}
            self.state = "fixed"
        if self.target.off:
            self.state = "off" if self.fixed is None else self.state
            self.trouble = self.target.off

    def take(self, models: Iterable[Model] | None) -> None:
        """Takes over a fetched catalogue: the limits, and the list of models unless the config has a fixed one.

        None: the upstream is healthy but lists nothing; the known models, or those that config.yaml names, stay.
        """
        self.trouble = self.said = ""
        if models is None:
            self.models = self.models or dict(self.configured)
            return
        fetched = {model.id: self._known(model) for model in models}
        if self.fixed is None:
            self.models, self.state = fetched, "fetched"
        else:
            told = {name: fetched.get(name) or fetched.get(self.listed(name)) or Model(name) for name in self.fixed}
            self.models = {name: self._known(replace(model, id=name)) for name, model in told.items()}
        self.fetched_at = time.time()

    def look_up(self, model: str) -> Model | None:
        """What is known of a model: by its name, or by its name without a `:free`-like suffix."""
        known = self.models.get(model) or self.models.get(self.listed(model))
        if known is None and ":" in model:
            known = self.models.get(model.rpartition(":")[0])
        if known is not None or not self.configured:
            return known
        return self.configured_for(model)

    def configured_for(self, model: str) -> Model | None:
        """What config.yaml says of a model, under any of its names."""
        if (told := self.configured.get(model)) is not None:
            return told
        id = self.listed(model)
        return next((told for name, told in self.configured.items() if self.listed(name) == id), None)

    def listed(self, model: str) -> str:
        """The name of this model in the upstream's own list."""
        return self.target.provider.listed_as(model)

    def refusal(self, model: str) -> SluiceError | None:
        """Why the catalogue forbids this model: only if it is fixed, or fetched with `strict_models`; else None."""
        closed = self.state == "fixed" or (self.state == "fetched" and self.strict)
        if not closed or model in self.models or self.listed(model) in self.models:
            return None
        return SluiceError(
            "model_not_found",
            f"The upstream {self.target.upstream} has no model {model!r}.{suggestion(model, self.models)}",
            param="model",
            again="next",
        )

    def _known(self, model: Model) -> Model:
        said = self.configured_for(model.id)
        if said is None:
            return model
        prices = {**(model.prices or {}), **(said.prices or {})} or None
        return replace(model, context=said.context or model.context, output=said.output or model.output, prices=prices)


@dataclass(slots=True)
class Catalog:
    """The shelves of all upstreams, refreshed in the background and never while a call waits."""

    shelves: Mapping[str, Shelf]
    fetch: Fetch
    aliases: Callable[[], Iterable[Route]] = tuple  # exact routes and personas, callable as models
    targets: Callable[[str], Iterable[Target]] = lambda name: ()  # the targets of a model name
    changed: Callable[[Shelf], None] = lambda shelf: None  # called after each fetch
    blank: Blank = lambda text: text

    def look_up(self, target: Target) -> Model | None:
        """What is known of a target's model."""
        return self.shelves[target.upstream].look_up(target.model)

    def known(self, upstream: str, model: str) -> bool:
        """Whether configuration or catalogue name the model."""
        shelf = self.shelves.get(upstream)
        if shelf is None:
            return False
        if model in shelf.models or model in shelf.named or shelf.listed(model) in shelf.models:
            return True
        return shelf.configured_for(model) is not None

    def prices(self, upstream: str, model: str) -> Mapping[str, float] | None:
        """USD per million tokens: `input`, `output`, `cached`; None where they are unknown."""
        shelf = self.shelves.get(upstream)
        known = shelf.look_up(model) if shelf else None
        return known.prices if known else None

    def names(self) -> list[str]:
        """Every model name that can be called, for suggestions."""
        live = [
            f"{name}/{model}" for name, shelf in self.shelves.items() if not shelf.target.off for model in shelf.models
        ]
        return [*(route.match for route in self._live_aliases()), *live]

    def entries(self, upstream: str | None = None) -> list[dict[str, Any]]:
        """OpenAI's model objects of every live upstream as `upstream/model`, and of the aliases."""
        if upstream is not None:
            shelf = self.shelves.get(upstream)
            if shelf is None:
                raise SluiceError(
                    "client_invalid_request", f"There is no upstream {upstream!r}.", status=404, param="upstream"
                )
            personas = [self._alias(route) for route in self._live_aliases() if _belongs(route) == upstream]
            return [*personas, *shelf_entries(upstream, shelf)]
        listed = [entry for name, shelf in self.shelves.items() for entry in shelf_entries(name, shelf)]
        return [*(self._alias(route) for route in self._live_aliases()), *listed]

    def entry(self, name: str) -> dict[str, Any] | None:
        """The model object of this id."""
        for route in self._live_aliases():
            if route.match == name:
                return self._alias(route)
        upstream, _, model = name.partition("/")
        shelf = self.shelves.get(upstream)
        if shelf is not None and not shelf.target.off and model in shelf.models:
            return model_entry(upstream, shelf.models[model])
        for target in self.targets(name):  # a name that a route matches, as clients call it
            known = None if target.off else self.shelves[target.upstream].look_up(target.model)
            if known is not None:
                return {**model_entry(target.upstream, known), "id": name}
        return None

    def _live_aliases(self) -> list[Route]:
        """Aliases with at least one upstream that is switched on."""
        return [route for route in self.aliases() if not all(target.off for target in route.to)]

    def _alias(self, route: Route) -> dict[str, Any]:
        """The entry of an alias: with the upstream asked first, and what is known of its model."""
        first = next(target for target in route.to if not target.off)
        model = self.look_up(first) if "{" not in first.model else None
        return {
            "id": route.match,
            "object": "model",
            "created": 0,
            "owned_by": "sluice",
            "context_length": model.context if model else None,
            "max_output_tokens": model.output if model else None,
            "upstream": first.upstream,
            "chat": model is None or chats(model),
        }

    async def run(self) -> None:
        """Fetches and refreshes every catalogue until cancelled."""
        async with asyncio.TaskGroup() as group:
            for shelf in self.shelves.values():
                if not shelf.target.off:
                    group.create_task(self._keep_fresh(shelf))

    async def refresh(self, shelf: Shelf) -> bool:
        """Fetches one catalogue; on failure the last good one stays."""
        try:
            shelf.take(await self._fetched(shelf.target))
        except SluiceError as failure:
            shelf.trouble, shelf.said = failure.own or failure.message, self.blank(failure.message)
        except _ODD:
            log.warning("the list of models of %s cannot be read", shelf.target.upstream)
            shelf.trouble = shelf.said = "Its list of models cannot be read."
        self.changed(shelf)
        return not shelf.trouble

    async def _keep_fresh(self, shelf: Shelf) -> None:
        wait = _FIRST_RETRY
        while True:
            if await self.refresh(shelf):
                wait = _FIRST_RETRY
                await asyncio.sleep(shelf.refresh)
            else:
                await asyncio.sleep(min(wait, shelf.refresh))
                wait *= 2

    async def _fetched(self, target: Target) -> Sequence[Model] | None:
        asking = target.provider.catalog(target)
        try:
            request = next(asking)
            while True:
                request = asking.send(await self.fetch(target, request, _PATIENCE))
        except StopIteration as end:
            models: Sequence[Model] | None = end.value
            return models
        finally:
            asking.close()


def shelf_entries(name: str, shelf: Shelf) -> list[dict[str, Any]]:
    """The entries of one upstream; none where it is off."""
    return [] if shelf.target.off else [model_entry(name, model) for model in shelf.models.values()]


def model_entry(upstream: str, model: Model) -> dict[str, Any]:
    """OpenAI's model object, plus limits and upstream."""
    return {
        "id": f"{upstream}/{model.id}",
        "object": "model",
        "created": model.created or 0,
        "owned_by": model.owner or upstream,
        "context_length": model.context,
        "max_output_tokens": model.output,
        "upstream": upstream,
        "prices": dict(model.prices) if model.prices else None,
        "chat": chats(model),
    }


def chats(model: Model) -> bool:
    """Whether a model answers chats, as far as its catalogue entry or its name tells."""
    return not _OTHER_WORK.search(model.id) if model.chat is None else model.chat


def _belongs(route: Route) -> str | None:
    """The upstream that a persona belongs to; other aliases may lead to several."""
    return route.to[0].upstream if route.match.startswith("persona/") else None
