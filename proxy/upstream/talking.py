"""An answer that takes several requests (submit, poll, cancel), driven step by step as one body."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from proxy.clocks import Clock, ClockName
from proxy.errors import SluiceError
from proxy.providers.contract import Answer, Conversation, Order, Pause, Request, Talker, Target

Ask = Callable[[Target, Request, bool], Coroutine[Any, Any, Answer]]
"""Sends one request of a conversation (True: its first) and reads its answer."""
Later = Callable[[Coroutine[Any, Any, Any]], None]
"""Runs something after the call, without anybody waiting for it."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds that a job may wait for a worker, and that the wait of this name may take once it runs."""

    queue: float
    name: ClockName
    seconds: float


class Talk:
    """The body of an answer that a conversation makes: OpenAI events, piece by piece.

    Its clock is `queue` until a worker has the job, and `first_token` or `whole` from then on. Left early, it ends
    upstream what it began.
    """

    def __init__(self, talker: Talker, order: Order, ask: Ask, later: Later) -> None:
        self._talker, self._order, self._ask, self._later = talker, order, ask, later
        self._conversation: Conversation = talker.converse(order)
        self._answer: Answer | None = None
        self._clock: Clock | None = None
        self._patience = Patience(0, "first_token", 0)
        self._begun = False  # its first request was sent
        self.running = False  # a worker has the job
        self._ended = False
        self._asking: asyncio.Future[Answer] | None = None  # a request on its way; whoever leaves does not end it

    def timed(self, clock: Clock, patience: Patience) -> None:
        """Sets the clock that the waits are measured by."""
        self._clock, self._patience = clock, patience
        self._queued_by = asyncio.get_running_loop().time() + patience.queue

    def set_clock(self) -> None:
        """The wait that begins now is for a worker."""
        if self._clock is not None:
            self._clock.set("queue", self._queued_by - asyncio.get_running_loop().time())

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while True:
            try:
                answer, self._answer = self._answer, None
                step = self._conversation.send(answer)
            except StopIteration:
                self._ended = True
                raise StopAsyncIteration from None
            if isinstance(step, bytes):
                self._runs()
                return step
            if isinstance(step, Pause):
                if not step.queued:
                    self._runs()
                await asyncio.sleep(step.seconds)
            else:
                self._asking = asyncio.ensure_future(self._ask(self._order.target, step, not self._begun))
                self._begun = True
                self._answer = await asyncio.shield(self._asking)
                self._asking = None

    def _runs(self) -> None:
        if not self.running:
            self.running = True
            if self._clock is not None:
                self._clock.set(self._patience.name, self._patience.seconds)

    async def aclose(self) -> None:
        """Ends the conversation, and upstream what it did not see end."""
        if self._ended:
            return
        self._ended = True
        self._later(self._leave())

    async def _leave(self) -> None:
        """Ends upstream what was begun there; a submission still on its way is waited for, since it names the job."""
        try:
            if self._asking is not None:
                self._conversation.send(await self._asking)
        except (SluiceError, StopIteration):
            pass  # it failed or ended by itself; the farewell knows whether anything is left
        farewell = self._talker.farewell(self._conversation)
        self._conversation.close()
        if farewell is None:
            return
        try:
            await self._ask(self._order.target, farewell, False)
        except SluiceError:
            pass  # nobody is left to be told; the job ends by its own time-to-live
