"""Calls and routes for tests of the cache."""

from collections.abc import Callable
from typing import Any

import orjson

from proxy.call import Call, Headers
from proxy.jsonspans import model_span
from proxy.policies.rewriting import RequestRules, ResponseRules
from proxy.policies.routes import CachePolicy, Choice, Policies, Retry, Route, Timeouts
from proxy.providers.contract import Target
from proxy.providers.openai_compatible import OpenAICompatible

HELLO: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}
KEPT_AN_HOUR = CachePolicy(exact=3600.0, sampled=True)
Change = Callable[[dict[str, Any]], dict[str, Any]]


def target(model: str = "gpt-4o", upstream: str = "east", off: str = "", base: str = "http://east/v1") -> Target:
    return Target(upstream, model, OpenAICompatible(), base, key="", off=off)


def choice(
    *targets: Target, name: str = "gpt-", policy: CachePolicy | None = KEPT_AN_HOUR, request: RequestRules | None = None
) -> Choice:
    policies = Policies(Timeouts(1, 1, 1, 1, 1), Retry(1, 0, 0, 0), cache=policy)
    to = targets or (target(),)
    route = Route(name, name, False, to, request or RequestRules(), ResponseRules(), policies)
    return Choice(route, to)


def call(fields: dict[str, Any] | None = None, *, tenant: str = "one", headers: Headers | None = None) -> Call:
    fields = HELLO if fields is None else fields
    body = orjson.dumps(fields)
    made = Call("id", "openai", "chat/completions", fields["model"], body, fields, list(headers or []))
    made.tenant, made.stream, made.model_at = tenant, fields.get("stream") is True, model_span(body, fields)
    return made
