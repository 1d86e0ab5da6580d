"""The one door: every call, whatever page or API it came in by, is answered here."""

from asyncio import CancelledError
from dataclasses import dataclass
from time import perf_counter

from proxy.caches.serving import Answered, Copy
from proxy.call import Call
from proxy.errors import SluiceError
from proxy.headers import to_client
from proxy.logs import keep_content
from proxy.policies.pressure import Pressure
from proxy.policies.routes import Choice
from proxy.reply import Reply
from proxy.secrecy import Blank
from proxy.stages.admission import Keyring
from proxy.stages.caching import Cache
from proxy.stages.dispatch import Dispatch
from proxy.stages.metering import Meter
from proxy.stages.relaying import Relay
from proxy.stages.routing import Router
from proxy.tracing import Tracing
from proxy.watch import note_stream


@dataclass(frozen=True, slots=True)
class Stages:
    """The processing stages of one configuration."""

    meter: Meter
    keyring: Keyring
    router: Router
    cache: Cache
    dispatch: Dispatch
    blank: Blank
    pressure: Pressure
    instance: bytes  # identifies this process in the header cdn-loop
    content: bool = False  # log.content: prompts and answers are kept for the log
    tracing: Tracing | None = None  # OpenTelemetry spans; None: off


@dataclass(slots=True)
class Gateway:
    """Answers calls. A reload builds a new gateway; running calls finish with the one they began with."""

    stages: Stages

    def answer(self, call: Call) -> "Answering":
        """The reply to a call, as `async with`: leaving the block closes what the reply holds open upstream."""
        return Answering(self.stages, call)

    def admit(self, call: Call) -> None:
        """Checks the client key before the body is read. Raises invalid_api_key."""
        self.stages.keyring.admit(call)

    def refused(self, call: Call, failure: BaseException) -> None:
        """Counts a call that its door refused, or whose client left before it got further."""
        self.stages.meter.ended(call, _cause(failure))


class Answering:
    """All stages of one call, as an async context manager. (A class: a generator would cost 5 % more per call.)"""

    __slots__ = ("_call", "_stages", "_wire")

    def __init__(self, stages: Stages, call: Call) -> None:
        self._stages, self._call = stages, call
        self._wire: Answered | Copy | None = None

    async def __aenter__(self) -> Reply:
        stages, call = self._stages, self._call
        if stages.tracing is not None:
            stages.tracing.begin(call)
        if call.stream:
            stages.meter.stream_began(call)
        try:
            if call.tenant is None:
                stages.keyring.admit(call)
            if stages.pressure.refusal is not None:
                raise stages.pressure.refusal
            if call.passed is not None and stages.instance in call.passed:
                raise SluiceError(
                    "proxy_loop", "The call has passed through this proxy before: a route leads back to it."
                )
            if call.allowance is not None:
                call.allowance.enter(call)
            choice = stages.router.choose(call)
            call.trace.route = choice.route.name
            if stages.content:
                keep_content(call.trace, call.body)
            if choice.route.policies.cache is None and call.cache == "on":
                wire: Answered | Copy = await stages.dispatch.send(call, choice)
                if wire.stream is not None:  # whole answers hold nothing open
                    self._wire = wire
            else:
                self._wire = wire = await stages.cache.answer(call, choice, stages.dispatch.send)
            return self._reply(choice, wire)
        except BaseException as error:
            await self.__aexit__(None, error, None)
            raise

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Closes what the call holds open, and counts it. Raises the error with which the server cancelled it."""
        wire, stages = self._wire, self._stages
        cause = None if error is None else _cause(error)
        try:
            if wire is not None:
                if wire.stream is not None:
                    note_stream(self._call, wire.stream.watch)
                await wire.aclose()
        finally:
            stages.meter.ended(self._call, cause)
            if stages.tracing is not None:
                stages.tracing.ended(self._call)
        if cause is not None and cause is not error:
            raise cause from None

    def _reply(self, choice: Choice, wire: Answered | Copy) -> Reply:
        call, rules = self._call, choice.route.response
        trace = call.trace
        trace.status = wire.status
        trace.overhead = perf_counter() - call.began - trace.waited
        headers = to_client(wire.headers)
        if wire.body is not None:
            if trace.kept is not None:
                keep_content(trace, wire.body)
            return Reply(wire.status, headers, wire.body if rules.is_identity else rules.whole(wire.body, call.model))
        relay = Relay(call, rules, wire, self._stages.content, self._stages.blank)
        return Reply(wire.status, headers, None, relay)


def _cause(error: BaseException) -> BaseException:
    """Why a call ended: a CancelledError means that the client left, unless the server put an error into it."""
    reason = error.args[0] if isinstance(error, CancelledError) and error.args else None
    return reason if isinstance(reason, SluiceError) else error
