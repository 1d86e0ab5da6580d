"""Parses an HTTP request into a call, or raises what is wrong with it."""

from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final, cast

import orjson
from starlette.types import Receive, Scope

from proxy.call import CacheMode, Call, Door, Headers
from proxy.errors import SluiceError, invalid_field
from proxy.headers import SANE_ID, Lines, new_id
from proxy.jsonspans import model_span
from proxy.reply import DIRECT, Direct
from proxy.units import wait

_LONGEST_MODEL: Final = 1000  # characters
_NO_FIELDS: Final[dict[str, Any]] = {}


def take_body(scope: Scope, limit: int) -> bytes | None:
    """The request's whole body if the server has it already, else None. Raises client_too_large past `limit`."""
    direct: Direct | None = scope.get(DIRECT)
    body = direct.take() if direct is not None else None
    if body is not None and len(body) > limit:
        raise body_too_large(limit)
    return body


async def read_body(scope: Scope, receive: Receive, limit: int, call: Call | None = None) -> bytes:
    """The request's whole body. Raises client_too_large past `limit` bytes, client_cancelled where the client left.

    `call`: its start is moved, so that the time the client takes to send the body does not count.
    """
    asked = perf_counter()
    try:
        message = await receive()
    finally:
        if call is not None:
            call.began += perf_counter() - asked
    if message["type"] == "http.request" and not message.get("more_body"):
        body: bytes = message.get("body", b"")
        if len(body) > limit:
            raise body_too_large(limit)
        return body
    pieces, size = [], 0
    while message["type"] == "http.request":
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])
        if size > limit:
            raise body_too_large(limit)
        if not message.get("more_body"):
            return b"".join(pieces)
        message = await receive()
    raise SluiceError("client_cancelled", "The client left while it was sending its request.")


def body_too_large(limit: int) -> SluiceError:
    """The error of a body over the limit."""
    return SluiceError("client_too_large", f"The request body is larger than {limit} bytes.")


def json_object(body: bytes, headers: Headers) -> dict[str, Any]:
    """The body's fields.

    Raises client_invalid_json; client_invalid_request for a compressed body, or JSON that is no object.
    """
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if not body.strip():
            raise SluiceError("client_invalid_json", "The request has no body; a JSON object is expected.") from None
        if any(line[0] == b"content-encoding" for line in headers):
            problem = "The request body is encoded; it is taken only as it is, without a content-encoding."
            raise SluiceError("client_invalid_request", problem, status=415) from None
        raise SluiceError("client_invalid_json", f"The request body is not valid JSON: {error}.") from None
    if not isinstance(fields, dict):
        raise SluiceError("client_invalid_request", "The request body must be a JSON object.")
    return fields


def require_json(content_type: bytes | None) -> None:
    """Raises 415 for a content type other than JSON, so that no web page can post to a local proxy."""
    kind = (content_type or b"").partition(b";")[0].strip().lower()
    if kind != b"application/json":
        raise SluiceError("client_invalid_request", "The content-type must be application/json.", status=415)


@dataclass(frozen=True, slots=True)
class Shown:
    """What a door reads from the head of a request."""

    own_id: str | None  # the client's x-request-id, if it is acceptable
    credential: str | None
    content_type: bytes | None
    passed: bytes | None
    own: tuple[tuple[bytes, bytes], ...]  # header lines meant for Sluice itself


def begin_call(scope: Scope, door: Door, endpoint: str) -> Call:
    """A call of which only the head is known."""
    headers = scope["headers"]
    if isinstance(headers, Lines):
        shown = headers.worked.get("shown")
        if shown is None:
            shown = headers.worked["shown"] = read_head(headers)
    else:
        shown = read_head(headers)
    id = shown.own_id or new_id()
    return Call(
        id, door, endpoint, "", b"", _NO_FIELDS, headers, shown.passed, shown.own, shown.credential, shown.content_type
    )


def read_head(headers: Headers) -> Shown:
    """Parses the header lines; of several credentials, the one in Authorization counts."""
    own_id = credential = key = content_type = passed = None
    own = []
    for name, value in headers:
        if name == b"authorization":
            credential = bearer(value)
        elif name == b"content-type":
            content_type = value
        elif name == b"cdn-loop":
            passed = value if passed is None else passed + b", " + value
        elif name == b"x-request-id":
            own_id = value if SANE_ID.fullmatch(value) else None
        elif name == b"x-api-key" or name == b"api-key":
            key = key or value
        elif name == b"x-session-id" or name.startswith(b"x-sluice-"):
            own.append((name, value))
    if credential is None and key is not None:
        credential = key.decode("latin-1")
    return Shown(own_id.decode() if own_id else None, credential, content_type, passed, tuple(own))


def fill(call: Call, body: bytes) -> None:
    """Adds the body. Raises client errors where it is not a JSON object with exactly one `model`."""
    if call.content_type != b"application/json":
        require_json(call.content_type)
    for name, value in call.own:
        _note_own(call, name, value)
    fields = json_object(body, call.headers)
    model = fields.get("model")
    if not isinstance(model, str) or not model:
        problem = "is missing" if model is None else "must be a string that is not empty"
        raise invalid_field("model", f"{problem}; it decides the route")
    if len(model) > _LONGEST_MODEL:  # history and routing table keep model names for a while
        raise invalid_field("model", "is too long for a name")
    call.model_at = model_span(body, fields)
    stream = fields.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise invalid_field("stream", "must be true or false")
    call.model, call.body, call.fields, call.stream = model, body, fields, stream is True
    if call.endpoint == "chat/completions" and not isinstance(fields.get("messages"), list):
        raise invalid_field("messages", "must be a list")
    if call.session is None:
        cache_key = fields.get("prompt_cache_key")
        call.session = cache_key if isinstance(cache_key, str) and cache_key else None


def bearer(value: bytes) -> str | None:
    """The credential in an Authorization header; None for another scheme."""
    if value[:7] == b"Bearer ":
        return value[7:].strip().decode("latin-1") or None
    scheme, _, credential = value.partition(b" ")
    return credential.strip().decode("latin-1") if scheme.lower() == b"bearer" and credential.strip() else None


def _note_own(call: Call, name: bytes, value: bytes) -> None:
    """Parses a request header that is meant for Sluice itself."""
    text = value.decode("latin-1").strip()
    if name == b"x-sluice-session" or (name == b"x-session-id" and call.session is None):
        call.session = text or None
    elif name == b"x-sluice-cache":
        if text not in ("off", "refresh", "only"):
            raise SluiceError("client_invalid_request", "x-sluice-cache must be off, refresh or only.")
        call.cache = cast(CacheMode, text)
    elif name == b"x-sluice-timeout":
        try:
            call.timeout = wait(text)
        except ValueError:
            raise SluiceError("client_invalid_request", "x-sluice-timeout must be a duration such as 10s.") from None
