"""The caching stage by itself: ages under a clock of the test's, sharing, pressure, figures, clearing."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
import pytest

from proxy.caches.flights import LONGEST, WINDOW, Reading
from proxy.caches.memory import Memory
from proxy.caches.serving import Copy
from proxy.call import Call, Headers
from proxy.errors import SluiceError
from proxy.policies.routes import CachePolicy, Choice
from proxy.providers.contract import Target
from proxy.stages.caching import Cache, flight_call, is_finished
from proxy.watch import ChatWatch
from tests.caches.calls import HELLO, KEPT_AN_HOUR, call, choice, target
from tests.waiting import until

STREAM = HELLO | {"stream": True}
DONE = b"data: [DONE]\n\n"


def whole(text: str = "hi", **more: Any) -> bytes:
    message = {"role": "assistant", "content": text} | more.pop("message", {})
    return orjson.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "stop"} | more]})


def event(text: str = "", finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return b"data: " + orjson.dumps({"object": "chat.completion.chunk", "choices": [choice]}) + b"\n\n"


class Batches:
    """A stream that waits for `more` before each batch, where that is given."""

    def __init__(self, batches: list[bytes | SluiceError], more: asyncio.Semaphore | None) -> None:
        self.batches, self.more, self.given = batches, more, 0
        self.watch = ChatWatch(lambda fields: None, own_usage=False)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._all()

    async def _all(self) -> AsyncIterator[bytes]:
        for batch in self.batches:
            if self.more is not None:
                await self.more.acquire()
            if isinstance(batch, SluiceError):
                raise batch
            self.given += 1
            yield self.watch.see(batch)


@dataclass(slots=True)
class Wired:
    """An upstream's answer."""

    body: bytes | None = None
    stream: Batches | None = None
    head: bytes = b""
    status: int = 200
    target: Target = field(default_factory=target)
    headers: Headers = field(default_factory=list)
    closed: bool = False

    async def aclose(self) -> None:
        self.closed = True


@dataclass(slots=True)
class Upstream:
    """Answers calls with what `answer` makes; counts them."""

    answer: Callable[[], Wired]
    asked: int = 0
    given: list[Wired] = field(default_factory=list)

    async def send(self, call: Call, choice: Choice) -> Wired:
        self.asked += 1
        call.trace.upstream, call.trace.model = "east", "gpt-4o"
        call.trace.attempts = ("east:200",)
        self.given.append(self.answer())
        return self.given[-1]


class Stage:
    """A cache with a clock that the test moves."""

    def __init__(self, answer: Callable[[], Wired] = lambda: Wired(whole())) -> None:
        self.now = 1000.0
        self.said: list[tuple[str, str]] = []
        self.cache = Cache(Memory(1 << 20, lambda: self.now), lambda *said: self.said.append(said))
        self.cache.clock = lambda: self.now
        self.upstream = Upstream(answer)

    async def open(self, made: Call, way: Choice | None = None) -> Wired | Copy:
        return await self.cache.answer(made, way or choice(), self.upstream.send)

    async def ask(self, fields: dict[str, Any] = HELLO, way: Choice | None = None, **changes: Any) -> str:
        """What the cache said to a call that was answered to its end."""
        made = replace(call(fields), **changes)
        answer = await self.open(made, way)
        try:
            await read(answer)
        finally:
            await answer.aclose()
        return made.trace.cache


async def read(answer: Wired | Copy) -> bytes:
    if answer.body is not None:
        return answer.body
    batches = [answer.head]
    if answer.stream is not None:
        async for batch in answer.stream:
            batches.append(batch)
    return b"".join(batches)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await scenario()

    asyncio.run(bounded())


def test_an_answer_is_as_old_as_the_clock_says_and_no_older_than_allowed() -> None:
    async def scenario() -> None:
        stage, way = Stage(), choice(policy=CachePolicy(exact=60, sampled=True))
        assert await stage.ask(way=way) == "miss"
        stage.now += 59
        answer = await stage.open(made := call(), way)
        assert (b"age", b"59") in answer.headers and made.trace.cache == "hit"
        assert await stage.ask(way=choice(policy=CachePolicy(exact=30, sampled=True))) == "miss"  # after a reload
        stage.now += 61
        assert await stage.ask(way=way) == "miss"

    run(scenario)


def test_what_a_route_does_not_keep_goes_straight_through() -> None:
    async def scenario() -> None:
        stage = Stage()
        for way in (choice(policy=None), choice(policy=CachePolicy())):
            assert [await stage.ask(way=way) for _ in range(2)] == ["off", "off"]
        assert stage.said == []
        assert await stage.ask(HELLO | {"modalities": ["audio"], "audio": {}}) == "off"
        assert await stage.ask(endpoint="responses") == "off"
        assert stage.said == [("gpt-", "off")] * 2

    run(scenario)


def test_what_a_flight_asks_for_itself() -> None:
    asked = call(STREAM | {"stream_options": {"include_obfuscation": False}})
    made = flight_call(asked)
    options = {"include_obfuscation": False, "include_usage": True}
    assert made.wants_usage and orjson.loads(made.body) == made.fields == STREAM | {"stream_options": options}
    assert made.body[slice(*made.model_at)] == b'"gpt-4o"'
    assert not asked.wants_usage and made.trace is not asked.trace
    assert flight_call(call()).body == call().body


def test_a_stream_flows_while_it_is_shared_and_each_has_its_own_pace() -> None:
    async def scenario() -> None:
        more = asyncio.Semaphore(0)
        texts = [event("a"), event("b"), event("c", "stop"), DONE]
        stage = Stage(lambda: Wired(stream=Batches([*texts], more)))
        first = await stage.open(call(STREAM))
        second = await stage.open(call(STREAM))
        assert first.stream is not None and second.stream is not None
        one, other = aiter(first.stream), aiter(second.stream)
        more.release()
        assert await anext(one) == event("a")
        more.release()
        assert await anext(one) == event("b")
        assert await anext(other) == event("a") + event("b")  # what it lags behind comes at once
        for _ in range(2):
            more.release()
        assert [batch async for batch in first.stream][-1].endswith(DONE)
        await first.aclose()
        third = await stage.open(made := call(HELLO))
        assert made.trace.cache == "hit" and b'"abc"' in await read(third)
        assert (await read(second)).endswith(DONE)
        assert stage.upstream.asked == 1 and stage.upstream.given[0].closed

    run(scenario)


def test_one_who_leaves_while_waiting_takes_nobody_along_and_the_last_ends_it() -> None:
    async def scenario() -> None:
        more = asyncio.Semaphore(0)
        stage = Stage(lambda: Wired(stream=Batches([event("a", "stop"), DONE], more)))
        waiting = [asyncio.create_task(stage.ask(STREAM)) for _ in range(3)]
        await until(lambda: len(stage.said) == 3 and bool(stage.upstream.given))
        for leaving in waiting[:2]:
            leaving.cancel()
            await asyncio.wait([leaving])
        assert not stage.upstream.given[0].closed
        waiting[2].cancel()
        await until(lambda: stage.upstream.given[0].closed)
        again = asyncio.create_task(stage.ask(STREAM))
        await until(lambda: stage.upstream.asked == 2)
        more.release()
        more.release()
        assert await again == "miss"

    run(scenario)


def test_all_see_the_failure_and_each_has_its_own() -> None:
    async def scenario() -> None:
        more = asyncio.Semaphore(0)
        broken = SluiceError("upstream_truncated", "It ended.", again="same")
        stage = Stage(lambda: Wired(stream=Batches([event("a"), broken], more)))
        streams = [await stage.open(call(STREAM)) for _ in range(2)]
        waiting = asyncio.create_task(stage.ask())
        await until(lambda: len(stage.said) == 3)
        more.release()
        more.release()
        failures = []
        for stream in streams:
            with pytest.raises(SluiceError) as caught:
                await read(stream)
            failures.append(caught.value)
            await stream.aclose()
        with pytest.raises(SluiceError, match="upstream_truncated"):
            await waiting
        assert failures[0] is not failures[1] and {str(each) for each in failures} == {str(broken)}
        assert (await stage.cache.stats())["entries"] == 0

    run(scenario)


def test_a_slow_reader_holds_the_upstream_back_and_a_faster_one_lets_it_go_on() -> None:
    async def scenario() -> None:
        batch = event("x" * 10_000)
        stage = Stage(lambda: Wired(stream=Batches([*[batch] * 100, event("", "stop"), DONE], None)))
        slow = await stage.open(call(STREAM))
        stream = stage.upstream.given[0].stream
        assert stream is not None
        await until(lambda: stream.given > WINDOW // len(batch))
        await asyncio.sleep(0.01)
        assert stream.given == WINDOW // len(batch) + 1
        fast = await stage.open(call(STREAM))
        assert (await read(fast)).endswith(DONE)
        await fast.aclose()
        assert (await read(slow)).endswith(DONE)

    run(scenario)


def test_a_stream_without_end_is_neither_held_nor_kept() -> None:
    async def scenario() -> None:
        batch, count = event("x" * 100_000), LONGEST // 100_000 + 50
        stage = Stage(lambda: Wired(stream=Batches([*[batch] * count, event("", "stop"), DONE], None)))
        first = await stage.open(call(STREAM))
        assert len(await read(first)) > LONGEST
        await first.aclose()
        assert await stage.ask(STREAM) == "miss"

    run(scenario)


def test_a_stranger_error_is_nobodys_answer() -> None:
    async def scenario() -> None:
        stage = Stage()

        async def send(call: Call, choice: Choice) -> Wired:
            raise ValueError("a bug")

        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        with pytest.raises(SluiceError, match="proxy_internal"):
            await stage.cache.answer(call(), choice(), send)

    run(scenario)


def test_statistics_by_route_and_clearing() -> None:
    async def scenario() -> None:
        stage, other = Stage(), choice(target("gpt-4.1"), name="other-")
        for way in (choice(), choice(), other):
            await stage.ask(way=way)
        stats = await stage.cache.stats()
        assert (stats["entries"], stats["hits"], stats["misses"], stats["shared"]) == (2, 1, 2, 0)
        assert 0 < stats["bytes"] < stats["max_bytes"] == 1 << 20
        assert stats["by_route"] == [
            {"route": "gpt-", "entries": 1, "hits": 1, "misses": 1},
            {"route": "other-", "entries": 1, "hits": 0, "misses": 1},
        ]
        assert await stage.cache.clear("gpt-", "gpt-4.1") == 0
        assert await stage.cache.clear("gpt-") == 1
        assert await stage.cache.clear(model="gpt-4.1") == 1
        assert await stage.ask() == "miss"

    run(scenario)


def test_clearing_forgets_what_is_under_way() -> None:
    async def scenario() -> None:
        more = asyncio.Semaphore(0)
        stage = Stage(lambda: Wired(stream=Batches([event("a", "stop"), DONE], more)))
        first = await stage.open(call(STREAM))
        await stage.cache.clear()
        for _ in range(2):
            more.release()
        assert (await read(first)).endswith(DONE)
        assert (await stage.cache.stats())["entries"] == 0

    run(scenario)


def test_usage_is_counted_with_one_call_alone() -> None:
    async def scenario() -> None:
        usage = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}\n\n'
        more = asyncio.Semaphore(0)
        stage = Stage(lambda: Wired(stream=Batches([event("a", "stop"), usage, DONE], more)))
        copies = [await stage.open(call(STREAM | options)) for options in ({}, {}, {"stream_options": None})]
        asking = await stage.open(call(STREAM | {"stream_options": {"include_usage": True}}))
        for _ in range(3):
            more.release()
        texts = [await read(copy) for copy in copies]
        assert not any(b"usage" in text for text in texts) and b'"completion_tokens":4' in await read(asking)
        streams = [copy.stream for copy in (*copies, asking)]
        paid = [stream.watch.usage for stream in streams if isinstance(stream, Reading)]
        assert [usage.output for usage in paid if usage is not None] == [4]

    run(scenario)


@pytest.mark.parametrize(
    ("answer", "finished"),
    [
        (whole(), True),
        (whole(finish_reason="length"), True),
        (whole(finish_reason="content_filter"), False),
        (whole(finish_reason="error"), False),
        (whole(finish_reason=None), False),
        (whole(message={"tool_calls": [{}]}, finish_reason="tool_calls"), False),
        (whole(message={"function_call": {"name": "f"}}), False),
        (b'{"choices":[{"finish_reason":"stop","message":null}]}', False),
        (b'{"choices":[]}', False),
        (b'{"error":{"message":"no"},"choices":[{"finish_reason":"stop","message":{}}]}', False),
        (b"[]", False),
        (b"<html>", False),
        (b"", False),
    ],
)
def test_what_may_be_given_again(answer: bytes, finished: bool) -> None:
    assert is_finished(answer, tools=False, chat=True) is finished
    assert is_finished(b'{"data":[{}]}', tools=False, chat=False)
    assert not is_finished(b'{"data":[]}', tools=False, chat=False)


def test_tool_calls_where_the_route_wants_them() -> None:
    assert is_finished(whole(message={"tool_calls": [{}]}, finish_reason="tool_calls"), tools=True, chat=True)
    assert KEPT_AN_HOUR.tools is False
