"""The endpoints for Vapi's voice assistants: their custom LLM, and the webhook for their server messages."""

import time
from dataclasses import dataclass, field
from typing import Any

from starlette.types import Receive, Scope, Send

from proxy.call import Call, Headers
from proxy.doors.answering import DoorSettings, answer, was_read
from proxy.doors.front import respond_json
from proxy.doors.reading import begin_call, fill, json_object, read_body, require_json
from proxy.doors.table import Endpoint
from proxy.doors.vapi_calls import chat_body, session_of, without_vapis
from proxy.doors.vapi_signing import Signing, shows_secret
from proxy.doors.vapi_speaking import VoiceResponder
from proxy.doors.vapi_webhook import Webhook
from proxy.errors import SluiceError
from proxy.gateway import Gateway
from proxy.headers import value


@dataclass(frozen=True, slots=True)
class VoiceSettings:
    """Settings of voice calls.

    `secret` empty: the door is closed; `model`, `apology` None: no default model, no apology.
    """

    secret: str = field(repr=False)
    model: str | None = None
    apology: str | None = None


@dataclass(frozen=True, slots=True)
class VapiDoor:
    """`/vapi/…`. The Vapi secret takes the place of a client key; `signing` checks signed webhooks instead."""

    gateway: Gateway
    settings: DoorSettings
    voice: VoiceSettings
    hook: Webhook
    signing: Signing | None = None

    def endpoints(self) -> list[Endpoint]:
        """What this door adds to the table: nothing while it is closed, so that its paths are 404."""
        if not self.voice.secret:
            return []
        post = frozenset({"POST"})
        return [
            Endpoint("/vapi/chat/completions", post, "vapi", self.chat),
            Endpoint("/vapi/v1/chat/completions", post, "vapi", self.chat),
            Endpoint("/vapi/webhook", post, "vapi", self.webhook),
        ]

    async def chat(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One turn of a voice call, answered as a stream unless a whole answer is asked for."""
        call = begin_call(scope, "vapi", "chat/completions")
        if await was_read(self._read(call, scope, receive), self.gateway, call, scope, send):
            responder = VoiceResponder(scope, send, call, self.settings.ping, self.voice.apology)
            await answer(self.gateway, call, responder)

    async def _read(self, call: Call, scope: Scope, receive: Receive) -> None:
        self._admit(call)
        body = await read_body(scope, receive, self.settings.max_body, call)
        require_json(call.content_type)
        fields = json_object(body, call.headers)
        call.session = session_of(fields)
        fill(call, chat_body(body, fields, self.voice.model))

    def _admit(self, call: Call) -> None:
        """Admits Vapi as a tenant of its own."""
        if not shows_secret(call.headers, self.voice.secret):
            raise _unknown()
        call.tenant, call.credential = "vapi", None
        call.headers = without_vapis(call.headers)

    async def webhook(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A server message from Vapi."""
        try:
            reply = await self.hook.answer(await self._message(scope, receive))
        except SluiceError as failure:
            self.hook.refused(failure)
            raise
        await respond_json(scope, send, reply)

    async def _message(self, scope: Scope, receive: Receive) -> dict[str, Any]:
        """The body of a server message. Raises SluiceError for wrong credentials, and for an invalid message."""
        headers: Headers = scope["headers"]
        signing = self.signing if self.signing is not None and self.signing.is_signed(headers) else None
        if signing is None and not shows_secret(headers, self.voice.secret):
            raise _unknown()
        body = await read_body(scope, receive, self.settings.max_body)
        if signing is not None:
            signing.check(headers, body, time.time())
        require_json(value(headers, b"content-type"))
        return json_object(body, headers)


def _unknown() -> SluiceError:
    return SluiceError("invalid_api_key", "Vapi's secret is missing or wrong.")
