"""What becomes of a call at every door: it is read or turned away, then answered."""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass

from starlette.types import Scope, Send

from proxy.call import Call
from proxy.doors.replying import Responder
from proxy.errors import SluiceError
from proxy.gateway import Gateway


@dataclass(frozen=True, slots=True)
class Manners:
    """How the doors treat clients: the largest body in bytes, and the silence in seconds that a comment breaks."""

    max_body: int
    ping: float


async def answer(gateway: Gateway, call: Call, responder: Responder) -> None:
    """Answers a call that was read."""
    try:
        async with gateway.answer(call) as reply:
            if sending := responder.reply(reply):
                await sending
    except SluiceError as failure:
        if sending := responder.fail(failure):
            await sending
    finally:
        responder.close()


async def was_read(reading: Awaitable[None], gateway: Gateway, call: Call, scope: Scope, send: Send) -> bool:
    """Whether a call was read; one that was not is counted, and told why."""
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
    """Counts and answers a call that got no further than its door."""
    gateway.refused(call, failure)
    call.stream = False
    if sending := Responder(scope, send, call, 0.0).fail(failure):
        await sending
