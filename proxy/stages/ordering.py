"""Makes of a call what one target is to get: rewritten by the route's rules, with the target's model name in place."""

from dataclasses import dataclass
from typing import Any

import orjson

from proxy import jsonedit
from proxy.call import Call, Headers
from proxy.headers import to_upstream
from proxy.policies.rewriting import ask_usage
from proxy.policies.routes import Route
from proxy.providers.contract import Model, Order, Target

_STREAMED = jsonedit.compile_set("stream", True)
_EVENTS_WITH_USAGE = ("chat/completions", "completions")


@dataclass(slots=True)
class Draft:
    """A call after its route's rules, before a target is known."""

    call: Call
    body: bytes
    headers: Headers
    changes: tuple[str, ...]

    def order(self, target: Target, limits: Model | None = None, need: int = 0) -> Order:
        """The call for this target."""
        call, provider, body = self.call, target.provider, self.body
        stream = call.stream or (provider.whole_by_stream and call.chat)
        if stream and call.endpoint in _EVENTS_WITH_USAGE:
            if not call.stream:
                body = jsonedit.edit(body, (_STREAMED,))
            if provider.usage == "asked" and not call.wants_usage:
                body = ask_usage(body, call.fields if body is call.body else parsed(body))
        body = self._named(body, target.model)
        return Order(call.endpoint, body, stream, self.headers, target, limits, need)

    def _named(self, body: bytes, model: str) -> bytes:
        """The body with nothing exchanged but the model's name."""
        if body is self.call.body:
            if model == self.call.model:
                return body
            start, end = self.call.model_at
        else:
            start, end = jsonedit.model_span(body, parsed(body))
        return b"".join((body[:start], orjson.dumps(model), body[end:]))


def drafted(call: Call, route: Route, instance: bytes) -> Draft:
    """Applies the route's rules once, whatever number of targets is asked. `instance` names this proxy in cdn-loop."""
    headers = to_upstream(call.headers)
    if call.passed is None:
        headers.append((b"cdn-loop", instance))
    else:
        headers = [line for line in headers if line[0] != b"cdn-loop"]
        headers.append((b"cdn-loop", call.passed + b", " + instance))
    if route.request.is_identity:
        return Draft(call, call.body, headers, ())
    return Draft(call, *route.request.apply(call.body, call.fields, headers, call.endpoint))


def parsed(body: bytes) -> dict[str, Any]:
    """A JSON object that is known to be one."""
    fields: dict[str, Any] = orjson.loads(body)
    return fields
