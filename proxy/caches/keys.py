"""The cache key of a call: tenant, route, first target, the request, and the headers that may matter."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import orjson

from proxy.call import Call
from proxy.headers import to_upstream
from proxy.policies.routes import Choice
from proxy.shapes import string_of

_NOISE: Final = frozenset(
    (b"accept", b"accept-encoding", b"accept-language", b"api-key", b"authorization", b"baggage", b"cache-control")
    + (b"connection", b"content-length", b"content-type", b"cookie", b"dnt", b"host", b"idempotency-key", b"origin")
    + (b"pragma", b"priority", b"referer", b"traceparent", b"tracestate", b"user-agent", b"x-api-key")
    + (b"x-request-id", b"x-session-id")
)  # headers that upstreams do not get, or that do not affect answers; unknown headers do count
_NOISE_PREFIXES: Final = (b"x-stainless-", b"sec-", b"x-b3-", b"cf-")
_LONG_NUMBER: Final = re.compile(rb"[:,\[]\s*+-?\d{20}")
_FORM: Final = ("stream", "stream_options", "model")  # the form of the answer, and the name that the target replaces


@dataclass(frozen=True, slots=True)
class Asked:
    """The request of a call after its route's rules, as the cache compares it."""

    place: bytes  # tenant, route, target and headers
    fields: Mapping[str, Any]  # the body, parsed, without the fields of _FORM
    changes: tuple[str, ...]  # what the rules changed
    tags: bytes  # the `ROUTE` and `MODEL` parts of its key

    @property
    def sampled(self) -> bool:
        """Whether the answer is sampled: temperature above 0, or not given."""
        temperature = self.fields.get("temperature")
        return not (isinstance(temperature, int | float) and temperature <= 0)

    @property
    def has_tools(self) -> bool:
        """Whether the answer could be a tool call."""
        return bool(self.fields.get("tools") or self.fields.get("functions"))

    def key(self) -> bytes | None:
        """32 bytes: the tags, then a hash of everything; None: the body is nested too deeply."""
        return self._hashed(self.fields)

    def question(self, longest: int) -> "Question | None":
        """Its last user message, apart from the rest; None if that is not a single text, or longer than `longest`."""
        messages = self.fields.get("messages")
        last = messages[-1] if isinstance(messages, list) and messages else None
        if not isinstance(last, dict) or last.get("role") != "user":
            return None
        text = _text(last.get("content"))
        if not text or len(text) > longest or not isinstance(messages, list):
            return None
        rest = {**self.fields, "messages": [*messages[:-1], {**last, "content": None}]}
        scope = self._hashed(rest)
        return None if scope is None else Question(text, scope)

    def _hashed(self, fields: Mapping[str, Any]) -> bytes | None:
        try:
            body = orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)
        except orjson.JSONEncodeError:
            return None
        digest = hashlib.blake2b(self.place, digest_size=16)
        digest.update(body)
        return self.tags + digest.digest()


@dataclass(frozen=True, slots=True)
class Question:
    """A text compared by meaning, within a scope in which everything else is equal."""

    text: str
    scope: bytes


def asked(call: Call, choice: Choice) -> Asked:
    """The request as it would go to the first target that is switched on."""
    route, headers = choice.route, call.headers
    body = call.body
    changes: tuple[str, ...] = ()
    if not route.request.is_identity:
        body, headers, changes = route.request.apply(call.body, call.fields, to_upstream(headers), call.endpoint)
    fields = dict(call.fields if body is call.body else orjson.loads(body))
    for name in _FORM:
        fields.pop(name, None)
    exact = _LONG_NUMBER.search(body) is not None  # beyond 64 bits different numbers may be parsed alike
    target = next((each for each in choice.targets if not each.off), choice.targets[0])
    place, tags = _place(call.tenant or "", route.name, call.endpoint, target.upstream, target.base, target.model)
    odd = [line for line in headers if line[0] not in _NOISE and not line[0].startswith(_NOISE_PREFIXES)]
    lines = [*to_upstream(odd), *target.headers] if odd else target.headers
    if lines:
        place += _framed([b"%b:%b" % line for line in lines])
    if exact:
        place += _framed([body])
    return Asked(place, fields, changes, tags)


def tag(name: str) -> bytes:
    """The part of a key that identifies a route or a model by its name."""
    return hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()


@lru_cache(maxsize=4096)
def _place(*names: str) -> tuple[bytes, bytes]:
    """Tenant, route, endpoint, upstream, address and model as one byte string, and the tags of route and model."""
    return _framed([name.encode("utf-8", "surrogatepass") for name in names]), tag(names[1]) + tag(names[-1])


def _framed(parts: list[bytes]) -> bytes:
    """The parts with their lengths, so that different lists never give the same bytes."""
    return b"".join([b"%d:%b," % (len(part), part) for part in parts])


def _text(content: Any) -> str:
    """A message's content, if it is a single text."""
    if isinstance(content, list) and len(content) == 1 and isinstance(content[0], dict):
        part = content[0]
        content = part.get("text") if part.keys() == {"type", "text"} and part["type"] == "text" else None
    return string_of(content)
