"""Resumes a broken stream: the next target continues from what the client has seen."""

from dataclasses import replace

from proxy.errors import SluiceError
from proxy.policies.runs import Run
from proxy.policies.splices import Disagreement, Splice, Transcript, handed_on
from proxy.providers.contract import Order, Target
from proxy.reply import Flowing, Outlet
from proxy.upstream.attempting import Tries
from proxy.upstream.wire import Stream, Wire
from proxy.watch import Watch, note_stream


class Resumption(Flowing):
    """Takes the place of the EventStream that it continues.

    If nothing can be joined, the original failure is raised.
    """

    def __init__(self, run: Run, wire: Wire, tries: Tries) -> None:
        assert wire.stream is not None
        self._run, self._tries = run, tries
        self._first_failure: SluiceError | None = None  # the failure that ended the first stream
        self._second: Wire | None = None  # the answer that continues it
        self._stream: Stream = wire.stream
        self._splice: Splice | None = None
        self._transcript = Transcript()
        self._transcript.add(wire.head)
        self._pending = b""
        self._target = wire.target  # the target of the stream being read now
        self._asked_again: list[Target] = []

    @property
    def watch(self) -> Watch:
        """That of the stream being read now."""
        return self._stream.watch

    @property
    def failure(self) -> SluiceError | None:
        """That of the first stream."""
        return self._first_failure or self._stream.failure

    @property
    def complete(self) -> bool:
        """Whether the answer is complete."""
        return self._stream.complete

    def __aiter__(self) -> "Resumption":
        return self

    def flow(self, outlet: Outlet) -> None:
        """See Flowing; as long as the first stream lasts."""

        def passed(batch: bytes) -> bool:
            taken = outlet(batch)
            if taken:
                self._transcript.add(batch)
            return taken

        if self._splice is None and isinstance(self._stream, Flowing):
            self._stream.flow(passed)

    @property
    def last_at(self) -> float | None:
        """That of the stream being read now."""
        return self._stream.last_at if isinstance(self._stream, Flowing) else None

    async def __anext__(self) -> bytes:
        while True:
            if self._pending:
                batch, self._pending = self._pending, b""
                return batch
            try:
                batch = self._joined(await self._stream.__anext__())
            except SluiceError as failure:
                await self._go_on(failure)
                continue
            except Disagreement:
                assert self._first_failure is not None, "only a second stream can disagree"
                await self._go_on(self._first_failure)
                continue
            if batch:
                self._transcript.add(batch)
                return batch

    async def aclose(self) -> None:
        """Closes every stream."""
        self._run.clock.close()
        await self._stream.aclose()
        await self._drop_second()

    def _joined(self, batch: bytes) -> bytes:
        return batch if self._splice is None else self._splice.events(batch)

    async def _go_on(self, failure: SluiceError) -> None:
        """Finds a target to continue. Raises `failure` if there is none, or nothing can be joined."""
        run = self._run
        self._first_failure = self._first_failure or failure
        await self._stream.aclose()
        await self._drop_second()
        if not self._transcript.joinable or failure.code == "upstream_timeout_total":
            raise failure
        self._ask_again_later(failure)
        while order := run.next_order():
            for attempt, continues in self._ways(order):
                outcome = await self._tries(attempt, run.clock, "content")
                if isinstance(outcome, Wire) and self._take(outcome, continues):
                    return
                if isinstance(outcome, Wire):
                    await outcome.aclose()
        raise failure

    def _ask_again_later(self, failure: SluiceError) -> None:
        """Allows the failed target to be asked once more, after the others, unless it only fell silent."""
        if failure.again == "same" and self._target not in self._asked_again:
            self._asked_again.append(self._target)
            self._run.left.append(self._target)

    def _ways(self, order: Order) -> list[tuple[Order, bool]]:
        """Continuing from the text so far, where the target supports it; then asking afresh."""
        afresh = (replace(order), False)
        text = self._transcript.texts().get("content", "")
        if not text:
            return [afresh]
        body = handed_on(order.body, text) if order.target.prefills else None
        return [afresh] if body is None else [(order.with_body(body), True), afresh]

    def _take(self, wire: Wire, continues: bool) -> bool:
        """Whether the new answer can be joined to the old one so far."""
        splice = Splice(self._transcript, continues, wire.target.provider.echoes)
        try:
            joined = splice.events(wire.head)
        except Disagreement:
            return False
        trace = self._run.call.trace
        attempts = ",".join(trace.attempts)
        told = f": sluice upstream={trace.upstream} model={ascii(trace.model)[1:-1]} attempts={attempts}\n\n".encode()
        self._pending = told + joined
        self._transcript.add(joined)
        self._second, self._splice, self._target = wire, splice, wire.target
        if wire.stream is not None:
            note_stream(self._run.call, self._stream.watch)  # the last stream is recorded by our owner
            self._stream = wire.stream
        return True

    async def _drop_second(self) -> None:
        second, self._second = self._second, None
        if second is not None:
            await second.aclose()
