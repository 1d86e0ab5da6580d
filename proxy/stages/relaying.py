"""Relays a stream to its client: rewritten by the route's rules, and kept where the log wants it."""

from functools import partial

from proxy.caches.serving import Answered, Copy
from proxy.call import Call
from proxy.errors import SluiceError
from proxy.logs import keep_content
from proxy.policies.rewriting import ResponseRules
from proxy.reply import Flowing, Outlet
from proxy.secrecy import Blank


class Relay(Flowing):
    """The only wrapper around a stream. A stream that breaks raises."""

    __slots__ = ("_batches", "_blank", "_call", "_content", "_head", "_rules", "_stream")

    def __init__(self, call: Call, rules: ResponseRules, wire: Answered | Copy, content: bool, blank: Blank) -> None:
        self._call, self._rules, self._content, self._blank = call, rules, content, blank
        self._head, self._stream = wire.head, wire.stream
        self._batches = None if wire.stream is None else wire.stream.__aiter__()

    def __aiter__(self) -> "Relay":
        return self

    async def __anext__(self) -> bytes:
        if self._head:
            head, self._head = self._head, b""
            return self._relayed(head)
        try:
            while self._batches is not None:
                if batch := self._relayed(await self._batches.__anext__()):
                    return batch
        except SluiceError as failure:
            failure.blank(self._blank)
            self._call.trace.failure = failure
            raise
        raise StopAsyncIteration

    def flow(self, outlet: Outlet) -> None:
        """See Flowing; only if the stream itself supports it."""
        if isinstance(self._stream, Flowing):
            changes = self._content or not self._rules.is_identity
            self._stream.flow(partial(self._passed, outlet) if changes else outlet)

    @property
    def last_at(self) -> float | None:
        """See Flowing."""
        return self._stream.last_at if isinstance(self._stream, Flowing) else None

    def _passed(self, outlet: Outlet, batch: bytes) -> bool:
        rewritten = self._rewritten(batch)
        if rewritten and not outlet(rewritten):
            return False  # nothing is logged: the batch comes again
        if self._content:
            keep_content(self._call.trace, batch)
        return True

    def _relayed(self, batch: bytes) -> bytes:
        if self._stream is not None and self._stream.watch.failure is not None:  # it may hold secrets
            batch = self._blank(batch.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
        if self._content:
            keep_content(self._call.trace, batch)
        return self._rewritten(batch)

    def _rewritten(self, batch: bytes) -> bytes:
        return batch if self._rules.is_identity else self._rules.events(batch, self._call.model)
