"""Replies to voice calls: if an upstream fails, the caller hears an apology instead of silence."""

import re
import time
from collections.abc import AsyncIterator, Awaitable
from typing import Any, Final

import orjson
from starlette.types import Scope, Send

from proxy.call import Call
from proxy.doors.replying import Responder
from proxy.errors import SluiceError, metric_code
from proxy.reply import Reply
from proxy.sse import DONE

_STREAM: Final = (b"content-type", b"text/event-stream; charset=utf-8")
_JSON: Final = (b"content-type", b"application/json")
_TOOL_CALLS: Final = re.compile(rb'"tool_calls"\s*:\s*\[')


class VoiceResponder(Responder):
    """A responder that speaks `apology` for failures that are not the caller's; None: failures stay failures.

    Vapi ends the telephone call on a 5xx or a broken stream. Metrics and log still record the failure.
    """

    def __init__(self, scope: Scope, send: Send, call: Call, ping: float, apology: str | None) -> None:
        super().__init__(scope, send, call, ping)
        self._apology = apology

    def reply(self, reply: Reply) -> Awaitable[None] | None:
        """Sends a reply; if its stream breaks, the apology follows."""
        if self._apology and reply.stream is not None and self._call.chat:
            reply.stream = Apologising(reply.stream, self._call, self._apology)
        return super().reply(reply)

    def fail(self, failure: SluiceError) -> Awaitable[None] | None:
        """Sends a failure, or the apology as an answer with status 200."""
        if not self._apology or not excusable(failure):
            return super().fail(failure)
        if self._call.stream:
            events = spoken_events(self._call, self._apology, False, failure)
            return super().reply(Reply(200, [_STREAM], stream=_once(events)))
        return super().reply(Reply(200, [_JSON], body=spoken_whole(self._call, self._apology)))


class Apologising(AsyncIterator[bytes]):
    """A stream that ends with the apology where it would break. No generator, so it needs no closing."""

    __slots__ = ("_acts", "_apology", "_begun", "_call", "_over", "_stream")

    def __init__(self, stream: AsyncIterator[bytes], call: Call, apology: str) -> None:
        self._stream, self._call, self._apology = stream, call, apology
        self._begun = self._over = False
        self._acts = False  # a tool call has begun: an apology cannot complete it

    async def __anext__(self) -> bytes:
        if self._over:
            raise StopAsyncIteration
        try:
            batch = await self._stream.__anext__()
        except SluiceError as failure:
            if self._acts or not excusable(failure):
                raise
            self._over = True
            return spoken_events(self._call, self._apology, self._begun, failure)
        self._begun = True
        self._acts = self._acts or _TOOL_CALLS.search(batch) is not None
        return batch


async def _once(events: bytes) -> AsyncIterator[bytes]:
    yield events


def excusable(failure: SluiceError) -> bool:
    """Whether a failure was the upstream's or ours. A full upstream is no fault of the caller's either."""
    return metric_code(failure).startswith(("upstream_", "proxy_", "policy_concurrency"))


def spoken_events(call: Call, apology: str, within: bool, failure: SluiceError) -> bytes:
    """The apology as the end of a stream; `within`: text was sent before it. A comment names the cause."""
    delta = {"content": f" {apology}"} if within else {"role": "assistant", "content": apology}
    chunks = [
        _completion(call, "chat.completion.chunk", {"delta": delta, "finish_reason": None}),
        _completion(call, "chat.completion.chunk", {"delta": {}, "finish_reason": "stop"}),
    ]
    told = f": sluice apology for={metric_code(failure)}\n\n".encode()
    return told + b"".join(b"data: " + orjson.dumps(chunk) + b"\n\n" for chunk in chunks) + DONE


def spoken_whole(call: Call, apology: str) -> bytes:
    """The apology as a whole answer."""
    message = {"role": "assistant", "content": apology, "refusal": None}
    return orjson.dumps(_completion(call, "chat.completion", {"message": message, "finish_reason": "stop"}))


def _completion(call: Call, kind: str, choice: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{call.id}",
        "object": kind,
        "created": int(time.time()),
        "model": call.model,
        "choices": [{"index": 0, **choice, "logprobs": None}],
    }
