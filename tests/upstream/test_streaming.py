"""Bytes pushed past a waiting reader and bytes it reads are together, in order, what reading alone gives."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import orjson
import pytest

from proxy.clocks import Clock, Watchdog
from proxy.errors import SluiceError
from proxy.providers.failures import error_in_event
from proxy.sse import DONE, EventCutter
from proxy.upstream.client import Client
from proxy.upstream.streaming import EventStream, Waits
from proxy.watch import ChatWatch, ResponsesWatch, Watch
from tests.upstream.conftest import Run
from tests.upstream.rawserver import OK, Peer, RawServer, Script, serving
from tests.waiting import until

HEAD = OK + b"content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def chat() -> ChatWatch:
    return ChatWatch(error_in_event, own_usage=False)


def event(delta: dict[str, str], finish: str | None = None) -> bytes:
    return b"data: %b\n\n" % orjson.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})


def text(said: str) -> bytes:
    return event({"content": said})


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


ROLE, FINISH = event({"role": "assistant"}), event({}, "stop")
ODD = [
    text(said) for said in ('"finish_reason":"stop"', "[DONE]", '{"error":1}', "\\", "}\n\n", "data: [DONE]\n\n", "é")
]
STREAM = [ROLE, text("first"), text("second"), b": ping\n\n", *ODD, *ODD, FINISH, DONE]
FAILURE = b'data: {"error":{"message":"It broke.","code":500}}\n\n'


async def say(peer: Peer, *steps: bytes | float) -> None:
    """Sends each piece apart from the next one, as the network would bring them, and sleeps for numbers."""
    for step in steps:
        if isinstance(step, bytes):
            await peer.send(step)
        await asyncio.sleep(0.0005 if isinstance(step, bytes) else step)


def saying(*steps: bytes | float) -> Script:
    """Answers every request so."""

    async def script(peer: Peer) -> None:
        while await peer.request():
            await say(peer, *steps)

    return script


def chunked(*steps: bytes | float) -> list[bytes | float]:
    return [HEAD, *(chunk(step) if isinstance(step, bytes) else step for step in steps)]


@dataclass
class Seen:
    """A client: what it got, in order, and how much of that without its reader's turn."""

    refuses: int = 0  # every so-manieth push is not taken; 0: all are
    got: bytes = b""
    pushed: int = 0
    asked: int = 0
    failure: str = ""
    ended_at: float = 0.0

    def outlet(self, batch: bytes) -> bool:
        self.asked += 1
        if self.refuses and self.asked % self.refuses == 0:
            return False
        self.got += batch
        self.pushed += 1
        return True

    async def read(self, stream: EventStream) -> None:
        try:
            async for batch in stream:
                self.got += batch
        except SluiceError as failure:
            self.failure = failure.code
        self.ended_at = asyncio.get_running_loop().time()


@dataclass
class Place:
    """Where streams are opened."""

    server: RawServer
    client: Client
    waits: Waits = field(default_factory=lambda: Waits(5, 5))
    total: float = 20

    async def stream(self, watch: Watch | None = None, clock: Clock | None = None) -> EventStream:
        response = await self.client.ask("POST", self.server.url, [], b"{}", 5)
        clock = clock or Watchdog().clock(self.total)
        return EventStream(response.stream, EventCutter(), watch or chat(), clock, self.waits)

    async def seen(self, seen: Seen, flows: bool = True, watch: Watch | None = None) -> Seen:
        stream = await self.stream(watch)
        if flows:
            stream.flow(seen.outlet)
        await seen.read(stream)
        await stream.aclose()
        return seen


@asynccontextmanager
async def at(script: Script, waits: Waits | None = None, total: float = 20) -> AsyncIterator[Place]:
    async with serving(script) as server:
        client = Client()
        try:
            yield Place(server, client, waits or Waits(5, 5), total)
        finally:
            await client.aclose()


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def crlf(events: list[bytes]) -> list[bytes]:
    return [one.replace(b"\n", b"\r\n") for one in events]


BODIES: dict[str, list[bytes | float]] = {
    "events": chunked(*STREAM) + [END],
    "several at once": chunked(*cut(b"".join(STREAM), 211)) + [END],
    "cut anywhere": chunked(*cut(b"".join(STREAM), 7)) + [END],
    "crlf": chunked(*crlf(STREAM)) + [END],
    "crlf cut": chunked(*cut(b"".join(crlf(STREAM)), 5)) + [END],
    "every byte of the wire": [HEAD, *cut(b"".join(map(chunk, [*STREAM[:5], FINISH, DONE])) + END, 1)],
    "end with the last event": [*chunked(*STREAM[:9]), chunk(FINISH + DONE) + END],
    "no done": chunked(*STREAM[:9], FINISH) + [END],
    "no finish": chunked(*STREAM[:9]) + [END],
    "a failure": chunked(*STREAM[:9], FAILURE, text("never")) + [END],
    "a failure behind content": chunked(*STREAM[:9], text("lost") + FAILURE) + [END],
    "no JSON": chunked(*STREAM[:9], b"data: {no\n\n", text("on"), FINISH, DONE) + [END],
    "no HTTP": [*chunked(*STREAM[:9]), chunk(text("last")) + b"rubbish\r\n"],
}


@pytest.mark.parametrize("steps", BODIES.values(), ids=BODIES)
def test_whatever_is_pushed_the_client_gets_the_bytes_that_reading_alone_gives(
    run: Run, steps: list[bytes | float]
) -> None:
    async def main() -> None:
        async with at(saying(*steps)) as place:
            read = await place.seen(Seen(), flows=False)
            pushed, refused = await place.seen(Seen()), await place.seen(Seen(refuses=3))
        assert read.pushed == 0 and pushed.pushed > 2 and refused.asked > refused.pushed
        assert (pushed.got, pushed.failure) == (read.got, read.failure) == (refused.got, refused.failure)
        assert read.got.replace(b"\r", b"").startswith(b"".join(STREAM[:5]))

    run(main())


def test_nothing_is_pushed_before_content_nor_while_nobody_waits(run: Run) -> None:
    async def main() -> None:
        async with at(saying(*chunked(ROLE, ROLE, ROLE, *STREAM), END)) as place:
            seen, stream = Seen(), await place.stream()
            stream.flow(seen.outlet)
            while stream.watch.content_at is None:
                assert seen.pushed == 0
                seen.got += await stream.__anext__()
            await asyncio.sleep(0.05)
            assert seen.pushed == 0
            await seen.read(stream)
            assert seen.got == b"".join((ROLE, ROLE, ROLE, *STREAM))
            await stream.aclose()

    run(main())


def test_the_responses_api_is_pushed_to_the_end_of_its_body(run: Run) -> None:
    said = [b'data: {"type":"response.output_text.delta","delta":"%d"}\n\n' % number for number in range(9)]
    end = b'data: {"type":"response.completed","response":{"usage":{"input_tokens":1}}}\n\n'

    async def main() -> None:
        async with at(saying(*chunked(*said, end), END)) as place:
            watch = ResponsesWatch(error_in_event)
            seen = await place.seen(Seen(), watch=watch)
        assert seen.got == b"".join(said) + end
        assert watch.complete and watch.usage is not None and seen.pushed > 2

    run(main())


def test_a_connection_whose_last_event_was_pushed_is_used_again(run: Run) -> None:
    async def main() -> None:
        async with at(saying(*chunked(*STREAM), 0.02, END)) as place:
            for _ in range(3):
                assert (await place.seen(Seen())).got == b"".join(STREAM)
            assert place.server.connections == 1

    run(main())


def test_what_follows_done_is_for_nobody(run: Run) -> None:
    async def main() -> None:
        late: list[bytes | float] = [0.03, b": late\n\n", 0.01, text("late"), 0.01, FAILURE]
        async with at(saying(*chunked(*STREAM, *late), END)) as place:
            for _ in range(2):
                seen = await place.seen(Seen())
                assert (seen.got, seen.failure) == (b"".join(STREAM), "")
            assert place.server.connections == 1

    run(main())


def test_an_upstream_that_does_not_end_its_body_after_done_is_not_waited_for(run: Run) -> None:
    async def main() -> None:
        async with at(saying(*chunked(*STREAM), 0.05, chunk(b": late\n"), 9.0), Waits(5, 5)) as place:
            began = asyncio.get_running_loop().time()
            seen = await place.seen(Seen())
            assert seen.got == b"".join(STREAM)
            assert seen.ended_at - began < 2

    run(main())


IDLE = Waits(5, 0.3)
TALKING: list[bytes | float] = [step for _ in range(10) for step in (text("x"), 0.05)]


def test_silence_is_measured_from_the_last_push(run: Run) -> None:
    async def main() -> None:
        async with at(saying(*chunked(ROLE, text("a"), *TALKING), 9.0), IDLE) as place:
            seen = await place.seen(Seen())
            assert seen.failure == "upstream_timeout_idle"
            assert seen.got == ROLE + text("a") + 10 * text("x")

    run(main())


@pytest.mark.parametrize("flows", [True, False])
def test_silence_behind_the_finish_ends_a_complete_answer(run: Run, flows: bool) -> None:
    async def main() -> None:
        async with at(saying(*chunked(*STREAM[:9], FINISH), 9.0), IDLE) as place:
            seen = await place.seen(Seen(), flows)
            assert (seen.got, seen.failure) == (b"".join(STREAM[:9]) + FINISH + DONE, "")

    run(main())


def test_bytes_that_are_no_event_yet_are_no_silence(run: Run) -> None:
    async def main() -> None:
        slowly = [step for byte in cut(text("slow"), 12) for step in (byte, 0.07)]
        async with at(saying(*chunked(ROLE, text("a"), 0.02, *slowly, FINISH, DONE), END), IDLE) as place:
            assert (await place.seen(Seen())).got == ROLE + text("a") + text("slow") + FINISH + DONE

    run(main())


def test_the_time_for_the_whole_call_ends_a_stream_that_is_pushed(run: Run) -> None:
    async def main() -> None:
        async with at(saying(*chunked(ROLE, text("a"), *4 * TALKING)), IDLE, total=0.45) as place:
            assert (await place.seen(Seen())).failure == "upstream_timeout_total"

    run(main())


def test_what_a_slow_client_did_not_take_is_not_lost_when_the_time_is_over(run: Run) -> None:
    async def main() -> None:
        async with at(saying(*chunked(*STREAM[:9], FINISH), 9.0)) as place:
            clock = Watchdog().clock(20)
            seen, stream = Seen(), await place.stream(clock=clock)

            def outlet(batch: bytes) -> bool:
                if FINISH not in batch:
                    return seen.outlet(batch)
                clock.again(20)  # the deadline of the whole call
                asyncio.get_running_loop().call_soon(clock.expire)  # before the reader's turn
                return False

            stream.flow(outlet)
            await seen.read(stream)
            await stream.aclose()
            assert (seen.got, seen.failure) == (b"".join(STREAM[:9]) + FINISH + DONE, "")

    run(main())


@pytest.mark.parametrize("breaks", [True, False])
def test_a_stream_that_is_over_has_no_say_in_its_calls_next_waits(run: Run, breaks: bool) -> None:
    async def main() -> None:
        loop, clock = asyncio.get_running_loop(), Watchdog().clock(20)
        script = saying(*chunked(*STREAM[:9], *([FAILURE] if breaks else [FINISH, DONE])), END)
        async with at(script) as place:
            seen, stream = Seen(), await place.stream(clock=clock)
            stream.flow(seen.outlet)
            await seen.read(stream)
            await stream.aclose()
        began = loop.time()
        clock.set("first_token", 0.05)
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(loop.create_future(), 2)
        assert clock.caught() == "first_token"
        assert loop.time() - began < 1
        clock.close()

    run(main())


def ended(cause: Callable[[Peer], None]) -> Script:
    async def script(peer: Peer) -> None:
        await peer.request()
        await say(peer, *chunked(*STREAM[:9]), 0.02)  # so that what was sent has been read before a reset
        cause(peer)

    return script


@pytest.mark.parametrize("cause", [Peer.reset, lambda peer: peer.writer.close()])
def test_a_broken_connection_is_reported_to_the_reader_after_all_received_bytes(
    run: Run, cause: Callable[[Peer], None]
) -> None:
    async def main() -> None:
        async with at(ended(cause)) as place:
            seen = await place.seen(Seen())
            assert (seen.got, seen.failure) == (b"".join(STREAM[:9]), "upstream_truncated")

    run(main())


def test_a_reader_that_leaves_costs_the_connection_and_is_pushed_nothing_more(run: Run) -> None:
    gone = asyncio.Event()

    async def talking(peer: Peer) -> None:
        await peer.request()
        sending = asyncio.create_task(say(peer, *chunked(ROLE, text("a"), *100 * TALKING)))
        await peer.left()
        sending.cancel()
        gone.set()

    async def main() -> None:
        async with at(talking) as place:
            seen, stream = Seen(), await place.stream()
            stream.flow(seen.outlet)
            reading = asyncio.create_task(seen.read(stream))
            await until(lambda: seen.pushed > 3)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            await stream.aclose()
            pushed = seen.pushed
            await gone.wait()
            assert seen.pushed == pushed

    run(main())
