"""Prepares a call for one target: rewritten by the route's rules, with the target's model name."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from proxy import jsonedit
from proxy.call import CHAT_LIKE, Call, Headers
from proxy.headers import Lines, to_upstream
from proxy.jsonspans import model_span
from proxy.policies.rewriting import ask_usage
from proxy.policies.routes import Route
from proxy.providers.contract import Model, Order, Target

_STREAMED = jsonedit.compile_set("stream", True)


@dataclass(slots=True)
class Draft:
    """A call after the route's rules, before a target is chosen."""

    call: Call
    body: bytes
    headers: Headers
    changes: tuple[str, ...]

    def ordered(self, target: Target, limits: Model | None = None, need: int = 0) -> Order:
        """The call for this target."""
        call, provider, body = self.call, target.provider, self.body
        stream = call.stream or (provider.whole_by_stream and call.endpoint in CHAT_LIKE)
        if stream and call.endpoint in CHAT_LIKE:
            if not call.stream:
                body = jsonedit.edit(body, (_STREAMED,))
            if provider.usage == "asked" and not call.wants_usage:
                body = ask_usage(body, call.fields if body is call.body else parsed(body))
        fields = call.fields if self.body is call.body else None
        if fields is None and (call.endpoint == "completions" or self.body.find(b'"n"') >= 0):
            fields = parsed(self.body)  # reading the answer needs the number of choices
        return Order(call.endpoint, self._named(body, target.model), stream, self.headers, target, limits, need, fields)

    def parsed(self) -> Mapping[str, Any]:
        """The body after the route's rules, parsed."""
        return self.call.fields if self.body is self.call.body else parsed(self.body)

    def _named(self, body: bytes, model: str) -> bytes:
        """The body with only the model name replaced."""
        if body is self.call.body:
            if model == self.call.model:
                return body
            start, end = self.call.model_at
        else:
            start, end = model_span(body, parsed(body))
        return b"".join((body[:start], orjson.dumps(model), body[end:]))


def rewritten(call: Call, route: Route, instance: bytes) -> tuple[bytes, Headers, tuple[str, ...]]:
    """Body, headers and changes after the route's rules, which are applied once for all targets.

    `instance` identifies this proxy in cdn-loop.
    """
    headers = upstream_headers(call.headers, instance)
    if route.request.is_identity:
        return call.body, headers, ()
    return route.request.apply(call.body, call.fields, headers, call.endpoint)


def upstream_headers(headers: Headers, instance: bytes) -> Headers:
    """The client's header lines that an upstream may see, and this proxy's entry in cdn-loop (RFC 8586)."""
    if not isinstance(headers, Lines):
        return _upstream_headers(headers, instance)
    passed: Lines | None = headers.worked.get(instance)
    if passed is None:
        passed = headers.worked[instance] = _upstream_headers(headers, instance)
    return passed


def _upstream_headers(headers: Headers, instance: bytes) -> Lines:
    loop = b", ".join([content for name, content in headers if name == b"cdn-loop"] + [instance])
    lines = [line for line in to_upstream(headers) if line[0] != b"cdn-loop"]
    return Lines([*lines, (b"cdn-loop", loop)])


def parsed(body: bytes) -> dict[str, Any]:
    """Parses a JSON object that is known to be one."""
    fields: dict[str, Any] = orjson.loads(body)
    return fields
