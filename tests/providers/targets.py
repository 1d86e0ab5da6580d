"""Targets and orders as the router would make them."""

from collections.abc import Sequence
from typing import Any

import orjson

from proxy.call import Headers
from proxy.providers.contract import Answer as Answer  # so that tests import all of it from here
from proxy.providers.contract import Model, Order, Provider, Request, Target


def target(provider: Provider, model: str = "m", key: str = "sk-planted-key-123456", **more: Any) -> Target:
    """A target of this provider at its own address."""
    return Target("up", model, provider, more.pop("base", provider.base_url), key, **more)


def order(provider: Provider, body: bytes = b'{"model":"m","messages":[]}', **more: Any) -> Order:
    """An order for it. `base`, `model` and `key` are the target's."""
    at = target(provider, **{name: more.pop(name) for name in ("base", "model", "key") if name in more})
    headers: Headers = more.pop("headers", [])
    return Order(more.pop("endpoint", "chat/completions"), body, more.pop("stream", False), headers, at, **more)


def listed(provider: Provider, *answers: Answer, **more: Any) -> tuple[list[Request], Sequence[Model]]:
    """What a provider asks for its catalogue, given these answers in turn, and what it lists."""
    steps = provider.catalog(target(provider, **more))
    asked = [next(steps)]
    for answer in answers:
        try:
            asked.append(steps.send(answer))
        except StopIteration as end:
            return asked, end.value
    raise AssertionError(f"{asked[-1]} was not answered")


def json(value: Any, status: int = 200, headers: Headers | None = None) -> Answer:
    """An answer that is JSON."""
    return Answer(status, headers or [], orjson.dumps(value))
