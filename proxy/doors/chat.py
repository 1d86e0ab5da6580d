"""The chat page's endpoint: a chat-completions body, or a short form of one, answered like chat completions."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson
from starlette.types import Receive, Scope, Send

from proxy.call import Call
from proxy.doors.answering import DoorSettings, answer, was_read
from proxy.doors.reading import begin_call, fill, json_object, read_body, require_json
from proxy.doors.replying import Responder
from proxy.doors.reshaping import items, joined_list, joined_object, members
from proxy.doors.table import Endpoint
from proxy.errors import invalid_field
from proxy.gateway import Gateway
from proxy.jsonspans import model_span

_SHORT: Final = frozenset({"message", "conversation", "persona", "model"})


@dataclass(frozen=True, slots=True)
class ChatDoor:
    """POST /chat. `first_model`: the model to use where the client named none; None: no model is known."""

    gateway: Gateway
    settings: DoorSettings
    first_model: Callable[[], str | None]

    def endpoints(self) -> list[Endpoint]:
        """What this door adds to the table."""
        return [Endpoint("/chat", frozenset({"POST"}), "chat", self.chat)]

    async def chat(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers as /v1/chat/completions does."""
        call = begin_call(scope, "chat", "chat/completions")
        if await was_read(self._read(call, scope, receive), self.gateway, call, scope, send):
            await answer(self.gateway, call, Responder(scope, send, call, self.settings.ping))

    async def _read(self, call: Call, scope: Scope, receive: Receive) -> None:
        self.gateway.admit(call)
        require_json(call.content_type)
        body = await read_body(scope, receive, self.settings.max_body, call)
        fill(call, expand_short_form(body, json_object(body, call.headers), self.first_model))


def expand_short_form(body: bytes, fields: Mapping[str, Any], first_model: Callable[[], str | None]) -> bytes:
    """A chat-completions body: unchanged, or what the short form stands for. `fields`: the body, parsed.

    Short form: `{"message", "model"?, "persona"?, "conversation"?: [messages]}` and any field of a chat-completions
    body. The message follows the conversation; a persona takes precedence over the model; without both, `first_model`
    is used.
    """
    if "messages" in fields:
        return body
    message = fields.get("message")
    if not isinstance(message, str) or not message:
        raise invalid_field("message", "must be a text that is not empty (or send `messages`, as for chat completions)")
    if fields.get("model") is not None:
        model_span(body, fields)
    found = dict(members(body))
    said = orjson.dumps({"role": "user", "content": message})
    before = items(found["conversation"]) if _conversation(fields) else ()
    rest = [member for member in members(body) if member[0] not in _SHORT]
    model = orjson.dumps(_model(fields, first_model))
    return joined_object([("model", model), ("messages", joined_list([*before, said])), *rest])


def _conversation(fields: Mapping[str, Any]) -> bool:
    """Whether the request has earlier messages."""
    before = fields.get("conversation")
    if before is None:
        return False
    if not isinstance(before, list) or not all(isinstance(message, dict) for message in before):
        raise invalid_field("conversation", "must be a list of messages")
    return True


def _model(fields: Mapping[str, Any], first_model: Callable[[], str | None]) -> str:
    for name, prefix in (("persona", "persona/"), ("model", "")):
        chosen = fields.get(name)
        if chosen is not None and not isinstance(chosen, str):
            raise invalid_field(name, "must be a text")
        if chosen:
            return prefix + chosen.removeprefix(prefix)  # "persona/pirate", as /v1/models lists it, is accepted too
    usual = first_model()
    if usual is None:
        raise invalid_field("model", "is missing, and the default upstream has no model that is known")
    return usual
