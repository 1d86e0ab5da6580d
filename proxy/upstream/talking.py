"""Runs a conversation (submit, poll, cancel) of a provider step by step, as the body of one answer."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from proxy.clocks import Clock, ClockName
from proxy.errors import SluiceError
from proxy.providers.contract import Answer, Conversation, Order, Pause, Request, Talker, Target

Ask = Callable[[Target, Request, bool], Coroutine[Any, Any, Answer]]
"""Sends one request of a conversation (True: the first one) and reads its answer."""
Later = Callable[[Coroutine[Any, Any, Any]], None]
"""Runs something after the call, in the background."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds that a job may be queued, and seconds for the wait of this name once it runs."""

    queue: float
    name: ClockName
    seconds: float


class Talk:
    """The body of an answer made by a conversation: OpenAI events, piece by piece.

    The deadline is `queue` until a worker has the job, then `first_token` or `whole`. Closed early, it cancels the job
    upstream.
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
        self._asking: asyncio.Future[Answer] | None = None  # a request under way; not cancelled when the reader leaves

    def timed(self, clock: Clock, patience: Patience) -> None:
        """Sets the clock that measures the waits."""
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
        """Ends the conversation, and cancels an unfinished job upstream."""
        if self._ended:
            return
        self._ended = True
        self._later(self._leave())

    async def _leave(self) -> None:
        """Cancels the job upstream; a submission still under way is awaited, since its answer names the job."""
        try:
            if self._asking is not None:
                self._conversation.send(await self._asking)
        except (SluiceError, StopIteration):
            pass  # failed or ended by itself; `farewell` knows whether a job is left
        farewell = self._talker.farewell(self._conversation)
        self._conversation.close()
        if farewell is None:
            return
        try:
            await self._ask(self._order.target, farewell, False)
        except SluiceError:
            pass  # nobody is left to be told; the job expires by its time-to-live
