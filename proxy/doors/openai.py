"""OpenAI's API: chat completions, the other endpoints that are routed by `model`, and the list of models."""

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, Final, Protocol
from urllib.parse import parse_qs, unquote

from starlette.types import Receive, Scope, Send

from proxy.call import Call
from proxy.doors.answering import DoorSettings, answer, turn_away, was_read
from proxy.doors.front import respond_json
from proxy.doors.reading import begin_call, fill, read_body, take_body
from proxy.doors.replying import Responder
from proxy.doors.table import App, Endpoint
from proxy.errors import SluiceError
from proxy.gateway import Gateway

FORWARDED: Final = (
    "chat/completions",
    "completions",
    "embeddings",
    "responses",
    "moderations",
    "images/generations",
    "audio/speech",
    "rerank",
)


class Listing(Protocol):
    """The models that can be called."""

    def entries(self, upstream: str | None = None) -> list[dict[str, Any]]:
        """OpenAI's model objects with their known limits; of one upstream, or all."""
        ...

    def entry(self, name: str) -> dict[str, Any] | None:
        """The model of this id."""
        ...


@dataclass(frozen=True, slots=True)
class OpenAIDoor:
    """Every endpoint under /v1."""

    gateway: Gateway
    listing: Listing
    settings: DoorSettings

    def endpoints(self) -> list[Endpoint]:
        """What this door adds to the table."""
        post, get = frozenset({"POST"}), frozenset({"GET", "HEAD"})
        asked = [Endpoint(f"/{name}", post, "client", self._answering(name)) for name in FORWARDED]
        return [
            *asked,
            Endpoint("/models", get, "client", self.models),
            Endpoint("/models/*", get, "client", self.model),
        ]

    def _answering(self, endpoint: str) -> App:
        def answered(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
            call = begin_call(scope, "openai", endpoint)
            try:
                self.gateway.admit(call)
                body = take_body(scope, self.settings.max_body)
                if body is None:
                    return self._received(call, scope, receive, send)
                fill(call, body)
            except SluiceError as failure:
                return turn_away(self.gateway, call, failure, scope, send)
            return answer(self.gateway, call, Responder(scope, send, call, self.settings.ping))

        return answered

    async def _received(self, call: Call, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a call whose body has not arrived yet."""
        if await was_read(self._read(call, scope, receive), self.gateway, call, scope, send):
            await answer(self.gateway, call, Responder(scope, send, call, self.settings.ping))

    async def _read(self, call: Call, scope: Scope, receive: Receive) -> None:
        fill(call, await read_body(scope, receive, self.settings.max_body, call))

    async def models(self, scope: Scope, receive: Receive, send: Send) -> None:
        """GET /models; `?upstream=NAME` for those of one upstream."""
        self.gateway.admit(begin_call(scope, "openai", "models"))
        asked = parse_qs(scope["query_string"].decode("latin-1")).get("upstream")
        await respond_json(scope, send, {"object": "list", "data": self.listing.entries(asked[0] if asked else None)})

    async def model(self, scope: Scope, receive: Receive, send: Send) -> None:
        """GET /models/{id}; the id may contain slashes, percent-encoded or not."""
        self.gateway.admit(begin_call(scope, "openai", "models"))
        name = unquote(scope["sluice.rest"])
        entry = self.listing.entry(name)
        if entry is None:
            raise SluiceError("model_not_found", f"There is no model {name!r}.", param="model")
        await respond_json(scope, send, entry)
