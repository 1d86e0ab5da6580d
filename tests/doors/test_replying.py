"""Responses: one head, then the body, with comments during silence and nothing after the end."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.call import Call, Headers
from proxy.doors.replying import PING, Responder, header, receipt
from proxy.errors import SluiceError
from proxy.reply import DIRECT, Direct, Flowing, Outlet, Reply
from proxy.sse import events, payload
from tests.waiting import until

EVENTS: Headers = [(b"content-type", b"text/event-stream")]
BROKEN = SluiceError("upstream_truncated", "It broke.")


def call(stream: bool = True) -> Call:
    made = Call("req_1", "openai", "chat/completions", "m", b"", {}, stream=stream)
    made.trace.route, made.trace.upstream, made.trace.model = "gpt-", "east", "gpt-4o"
    made.trace.attempts = ("east:200",)
    return made


@dataclass
class Wire:
    """What was sent; each sending takes `pause` seconds, or waits for `opened`."""

    pause: float = 0.0
    sent: list[dict[str, Any]] = field(default_factory=list)
    opened: asyncio.Event | None = None
    sending: int = 0
    most: int = 0

    async def __call__(self, message: Any) -> None:
        self.sending += 1
        self.most = max(self.most, self.sending)
        try:
            self.sent.append(message)
            await asyncio.sleep(self.pause)
            if self.opened is not None:
                await self.opened.wait()
        finally:
            self.sending -= 1

    @property
    def starts(self) -> list[dict[str, Any]]:
        return [message for message in self.sent if message["type"] == "http.response.start"]

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent if message["type"] == "http.response.body")

    def head(self) -> dict[bytes, bytes]:
        (start,) = self.starts
        return dict(start["headers"])

    def check(self) -> None:
        """One head before all else, one end behind it."""
        assert self.sent[0]["type"] == "http.response.start"
        ends = [not message.get("more_body", False) for message in self.sent[1:]]
        assert ends == [False] * (len(ends) - 1) + [True]
        assert len(self.starts) == 1


@dataclass
class Takes(Direct):
    """A server that takes pieces at once, and no whole answers."""

    wire: Wire

    def take(self) -> bytes | None:
        return None

    def whole(self, status: int, headers: Headers, body: bytes) -> bool:
        return False

    def push(self, data: bytes) -> bool:
        self.wire.sent.append({"type": "http.response.body", "body": data, "more_body": True})
        return True


async def awaited(sending: Awaitable[None] | None) -> None:
    assert sending is not None
    await sending


async def stream(*parts: bytes | float | SluiceError) -> AsyncIterator[bytes]:
    """Bytes are sent, numbers waited for, errors raised."""
    for part in parts:
        if isinstance(part, bytes):
            yield part
        elif isinstance(part, SluiceError):
            raise part
        else:
            await asyncio.sleep(part)


def replied(
    *parts: bytes | float | SluiceError,
    ping: float = 9,
    before: float = 0.0,
    wire: Wire | None = None,
    headers: Headers = EVENTS,
) -> Wire:
    sent = wire or Wire()

    async def run() -> None:
        responder = Responder({"sluice.extra": [(b"x-extra", b"1")]}, sent, call(), ping)
        try:
            await asyncio.sleep(before)
            await awaited(responder.reply(Reply(200, headers, stream=stream(*parts))))
        finally:
            responder.close()
        await asyncio.sleep(ping * 2 if ping < 1 else 0)  # nothing comes behind the end

    asyncio.run(run())
    return sent


def test_a_stream_is_passed_on_event_by_event() -> None:
    sent = replied(b"data: 1\n\n", b"data: 2\n\n")
    sent.check()
    assert [message["body"] for message in sent.sent[1:]] == [b"data: 1\n\n", b"data: 2\n\n", b""]
    head = sent.head()
    assert (head[b"x-sluice-upstream"], head[b"x-extra"], head[b"x-accel-buffering"]) == (b"east", b"1", b"no")
    assert b"content-length" not in head


@pytest.mark.parametrize("kind", [b"text/event-stream", b"Text/Event-Stream;charset=UTF-8"])
def test_a_break_is_an_error_event_and_the_end(kind: bytes) -> None:
    sent = replied(b"data: 1\n\n", BROKEN, headers=[(b"content-type", kind)])
    sent.check()
    assert orjson.loads(payload(list(events(sent.body))[-1]) or b"")["error"]["code"] == "upstream_truncated"
    assert b"[DONE]" not in sent.body


def test_silence_is_broken_by_comments_and_only_silence() -> None:
    sent = replied(b"data: 1\n\n", 0.16, b"data: 2\n\n", ping=0.05)
    sent.check()
    assert sent.body.count(PING) >= 2
    busy = replied(*[part for _ in range(40) for part in (b"data: x\n\n", 0.01)], ping=0.3)
    assert busy.body.count(PING) == 0


def test_a_head_that_had_to_leave_early_is_followed_by_who_answered() -> None:
    sent = replied(b"data: 1\n\n", ping=0.03, before=0.05)
    sent.check()
    assert sent.body.startswith(PING)
    assert b": sluice upstream=east model=gpt-4o attempts=east:200\n\ndata: 1\n\n" in sent.body
    head = sent.head()
    assert head[b"content-type"].startswith(b"text/event-stream") and head[b"x-sluice-route"] == b"gpt-"
    assert not {b"x-sluice-upstream", b"x-sluice-model", b"x-sluice-attempts", b"server-timing"} & head.keys()
    broken = replied(BROKEN, ping=0.03, before=0.05)
    assert b": sluice upstream=east" in broken.body
    assert b"upstream_truncated" in broken.body


def failed(stream: bool, before: float) -> Wire:
    sent = Wire()

    async def run() -> None:
        responder = Responder({}, sent, call(stream), 0.03)
        await asyncio.sleep(before)
        await awaited(responder.fail(SluiceError("upstream_rate_limited", "Slow down.", retry_after=3)))
        responder.close()
        await asyncio.sleep(0.08)

    asyncio.run(run())
    return sent


@pytest.mark.parametrize("stream", [True, False])
def test_a_failure_has_its_status_while_no_head_has_left(stream: bool) -> None:
    sent = failed(stream, 0.0)
    sent.check()
    (start,) = sent.starts
    assert (start["status"], sent.head()[b"retry-after"]) == (429, b"3")
    assert orjson.loads(sent.body)["error"]["code"] == "upstream_rate_limited"
    assert int(sent.head()[b"content-length"]) == len(sent.body)


def test_a_failure_behind_an_early_head_is_an_event() -> None:
    sent = failed(True, 0.05)
    sent.check()
    (start,) = sent.starts
    assert start["status"] == 200
    assert orjson.loads(payload(list(events(sent.body))[-1]) or b"")["error"]["code"] == "upstream_rate_limited"


def test_no_comment_follows_the_end_that_came_while_its_head_was_sent() -> None:
    sent = Wire()

    async def run() -> None:
        sent.opened = asyncio.Event()
        responder = Responder({}, sent, call(True), 0.01)
        await until(lambda: sent.sending)  # the comment's head
        ending = asyncio.ensure_future(awaited(responder.fail(SluiceError("upstream_error", "x"))))
        while sent.sending < 2:
            await asyncio.sleep(0)
        sent.opened.set()
        await ending
        responder.close()
        await asyncio.sleep(0)

    asyncio.run(run())
    sent.check()
    assert PING not in sent.body


def test_a_call_for_a_whole_answer_gets_no_comments() -> None:
    sent = failed(False, 0.1)
    (start,) = sent.starts
    assert start["status"] == 429
    assert PING not in sent.body


def test_a_reader_that_takes_nothing_has_one_comment_waiting_and_none_is_left_behind() -> None:
    async def run() -> Wire:
        sent = Wire(opened=asyncio.Event())
        responder = Responder({}, sent, call(), 0.01)
        await asyncio.sleep(0.15)
        assert sent.most == 1
        responder.close()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert sent.sending == 0
        assert len(asyncio.all_tasks()) == 1
        return sent

    assert len(asyncio.run(run()).sent) == 1


@given(st.text(st.characters(codec="utf-8"), max_size=600))
def test_no_text_leaves_its_header_line(text: str) -> None:
    line = header(text)
    assert len(line) <= 500
    assert all(32 <= byte < 127 for byte in line)
    made = call()
    made.trace.model = made.trace.route = text
    made.trace.changes = (text, text)
    for name, value in receipt(made):
        assert not set(b"\r\n\0") & set(name + value)


def test_a_call_that_reached_nobody_has_no_names_of_anybody() -> None:
    made = call()
    made.trace.upstream = made.trace.model = ""
    assert not {b"x-sluice-upstream", b"x-sluice-model"} & dict(receipt(made)).keys()
    made.trace.route = ""
    assert receipt(made) == [(b"x-request-id", b"req_1")]


class Pushed(Flowing):
    """A stream of a first batch, then of `pushes` batches that go out past its reader, then of a silence."""

    def __init__(self, pushes: int, apart: float, silence: float) -> None:
        self.steps = iter([b"data: first\n\n", b"data: last\n\n"])
        self.pushes, self.apart, self.silence = pushes, apart, silence
        self.outlet: Outlet | None = None
        self.at: float | None = None

    def flow(self, outlet: Outlet) -> None:
        self.outlet = outlet

    @property
    def last_at(self) -> float | None:
        return self.at

    def __aiter__(self) -> "Pushed":
        return self

    async def __anext__(self) -> bytes:
        batch = next(self.steps, None)
        if batch is None:
            raise StopAsyncIteration
        if batch == b"data: last\n\n":
            for _ in range(self.pushes):
                self.at = perf_counter()
                assert self.outlet is None or self.outlet(b"data: pushed\n\n")
                await asyncio.sleep(self.apart)
            await asyncio.sleep(self.silence)
        return batch


def flowed(stream: Pushed, ping: float, pushes: bool = True, before: float = 0.0) -> Wire:
    """What was sent; what was pushed is among it."""
    sent = Wire()

    async def run() -> None:
        responder = Responder({DIRECT: Takes(sent)} if pushes else {}, sent, call(), ping)
        await asyncio.sleep(before)
        await awaited(responder.reply(Reply(200, EVENTS, stream=stream)))
        responder.close()

    asyncio.run(run())
    sent.check()
    return sent


@pytest.mark.parametrize("before", [0.0, 0.05])
def test_what_flows_goes_out_behind_the_head(before: float) -> None:
    sent = flowed(Pushed(3, 0.0, 0.0), 0.03 if before else 9.0, before=before)
    assert sent.body.endswith(b"data: first\n\n" + 3 * b"data: pushed\n\n" + b"data: last\n\n")


def test_a_server_that_takes_no_pushes_gets_none() -> None:
    stream = Pushed(3, 0.0, 0.0)
    assert flowed(stream, 9.0, pushes=False).body == b"data: first\n\ndata: last\n\n"
    assert stream.outlet is None


def test_pushes_are_no_silence_and_silence_after_them_is() -> None:
    assert PING not in flowed(Pushed(25, 0.02, 0.0), 0.4).body
    silent = flowed(Pushed(5, 0.02, 0.4), 0.1).body
    assert silent.count(PING) >= 2
    assert silent.rindex(b"pushed") < silent.index(PING) < silent.index(b"last")
