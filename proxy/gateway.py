"""The one door: whatever page or API a call came in by, it is answered here."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import perf_counter

from proxy.call import Call
from proxy.errors import SluiceError
from proxy.headers import to_client
from proxy.policies.routes import Choice
from proxy.reply import Reply
from proxy.stages.admission import Keyring
from proxy.stages.dispatch import Dispatch
from proxy.stages.metering import Meter
from proxy.stages.routing import Router
from proxy.upstream.attempting import note
from proxy.upstream.wire import Wire


@dataclass(frozen=True, slots=True)
class Stages:
    """The steps of a call's way, as one configuration has them."""

    meter: Meter
    keyring: Keyring
    router: Router
    dispatch: Dispatch
    blank: Callable[[str], str]  # takes every configured secret out of a text


@dataclass(slots=True)
class Gateway:
    """Answers calls. `stages` is exchanged whole on a reload; running calls finish with those they began with."""

    stages: Stages

    @asynccontextmanager
    async def answer(self, call: Call) -> AsyncIterator[Reply]:
        """The reply to a call; what it holds open upstream is closed at the end of the block."""
        stages = self.stages
        with stages.meter.watch(call):
            stages.keyring.admit(call)
            choice = stages.router.choose(call)
            call.trace.route = choice.route.name
            async with await stages.dispatch.send(call, choice) as wire:
                yield self._reply(call, choice, wire)

    def admit(self, call: Call) -> None:
        """Lets a caller in before more is read of it. Raises invalid_api_key."""
        self.stages.keyring.admit(call)

    def refused(self, call: Call, failure: SluiceError) -> None:
        """Counts a call that was turned away at its door."""
        call.trace.failure = failure
        call.trace.status = failure.status
        self.stages.meter.count(call)

    def _reply(self, call: Call, choice: Choice, wire: Wire) -> Reply:
        trace, rules = call.trace, choice.route.response
        trace.status = wire.status
        trace.overhead = max(0.0, perf_counter() - call.began - trace.waited)
        headers = to_client(wire.headers)
        if wire.body is not None:
            body = wire.body if rules.is_identity else rules.whole(wire.body, call.model)
            return Reply(wire.status, headers, body)
        return Reply(wire.status, headers, stream=self._relay(call, choice, wire))

    async def _relay(self, call: Call, choice: Choice, wire: Wire) -> AsyncIterator[bytes]:
        """The only wrapper around a stream: rewrites its events and keeps what they said. A break in it raises."""
        rules = choice.route.response
        stream = wire.stream
        try:
            if wire.head:
                yield wire.head if rules.is_identity else rules.events(wire.head, call.model)
            if stream is None:
                return
            async for batch in stream:
                if rules.is_identity:
                    yield batch
                elif rewritten := rules.events(batch, call.model):
                    yield rewritten
        except SluiceError as failure:
            failure.message = self.stages.blank(failure.message)
            call.trace.failure = failure
            raise
        finally:
            if stream is not None:
                note(call, stream.watch)
