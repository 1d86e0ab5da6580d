"""The steps every door takes with a call: read it or refuse it, then answer it."""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass

from starlette.types import Scope, Send

from proxy.call import Call
from proxy.doors.replying import Responder
from proxy.errors import SluiceError
from proxy.gateway import Gateway


@dataclass(frozen=True, slots=True)
class DoorSettings:
    """The largest body in bytes, and the seconds of silence after which a stream gets a comment."""

    max_body: int
    ping: float


async def answer(gateway: Gateway, call: Call, responder: Responder) -> None:
    """Answers a call that has been read."""
    try:
        async with gateway.answer(call) as reply:
            if sending := responder.reply(reply):
                await sending
    except SluiceError as failure:
        if sending := responder.fail(failure):
            await sending
    finally:
        if call.stream:  # else there are no comments to stop
            responder.close()


async def was_read(reading: Awaitable[None], gateway: Gateway, call: Call, scope: Scope, send: Send) -> bool:
    """Reads a call; False: it could not be read, and has been counted and answered with its error."""
    try:
        await reading
    except SluiceError as failure:
        await turn_away(gateway, call, failure, scope, send)
        return False
    except asyncio.CancelledError as left:
        gateway.refused(call, left)
        raise
    return True


async def turn_away(gateway: Gateway, call: Call, failure: SluiceError, scope: Scope, send: Send) -> None:
    """Counts and answers a call that its door refuses."""
    gateway.refused(call, failure)
    call.stream = False
    if sending := Responder(scope, send, call, 0.0).fail(failure):
        await sending
