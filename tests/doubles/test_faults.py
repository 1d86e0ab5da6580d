"""What a client sees of each fault, and what the double sees of the client."""

import asyncio
import time
from collections.abc import Iterator

import httpx
import openai
import pytest

from tests.doubles.faults import (
    CloseAfter,
    CloseOnReuse,
    ContentFilter,
    ContextLength,
    CutAfter,
    ErrorEvent,
    ErrorIn200,
    Fine,
    FirstTokenAfter,
    Flap,
    HeadersThenSilence,
    Held,
    HoldAfter,
    HtmlIn200,
    Late,
    NoDone,
    NoFinish,
    Redirect,
    RejectPrefill,
    ResetBeforeHeaders,
    RoleOnlyThen,
    Say,
    Silent,
    StallAfter,
    Status,
    down_for,
)
from tests.doubles.oddities import (
    BOM,
    CRLF,
    Comments,
    EventsCutAt,
    Fields,
    GzipBomb,
    HugeEvent,
    KeepAlive,
    MalformedEvent,
    MultiLineData,
    NoLastBlank,
    NoLength,
    SlowEvents,
    StreamForWhole,
    WholeForStream,
    WrongUsage,
)
from tests.doubles.openai import OpenAIDouble
from tests.doubles.server import Fault
from tests.doubles.words import derived
from tests.waiting import until, wait_for

EVENTS = 63  # of an honest stream: the role, sixty words, the finish, [DONE]
CLOSED = httpx.RemoteProtocolError
BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
def double() -> Iterator[OpenAIDouble]:
    with OpenAIDouble() as started:
        yield started


@pytest.fixture
def client(double: OpenAIDouble) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {double.key}"}
    with httpx.Client(base_url=double.url, headers=headers, timeout=5, trust_env=False) as opened:
        yield opened


def ask(client: httpx.Client, stream: bool = True, **more: object) -> httpx.Response:
    return client.post("/chat/completions", json={**BODY, "stream": stream, **more})


def received(client: httpx.Client) -> tuple[bytes, type[Exception] | None]:
    """The body of a streamed answer as far as it came, and how it broke off."""
    got = b""
    try:
        with client.stream("POST", "/chat/completions", json={**BODY, "stream": True}) as response:
            for piece in response.iter_raw():
                got += piece
    except httpx.TransportError as error:
        return got, type(error)
    return got, None


@pytest.mark.parametrize(
    ("fault", "events", "broken"),
    [
        (CutAfter(40), 40, CLOSED),
        (CutAfter(40, "chunk-eof"), 40, None),
        (CutAfter(40, "half"), 40, CLOSED),
        (StallAfter(20, 0.05), 20, CLOSED),
        (StallAfter(20, 0.05, resume=True), EVENTS, None),
        (HeadersThenSilence(0.05), 0, CLOSED),
        (FirstTokenAfter(0.05), EVENTS, None),
        (Late(0.05), EVENTS, None),
        (ResetBeforeHeaders(), 0, httpx.ReadError),
        (ResetBeforeHeaders("close"), 0, CLOSED),
        (Silent(0.05), 0, CLOSED),
        (NoDone(), EVENTS - 1, None),
        (NoFinish(40), 41, None),
        (ErrorEvent(2), 3, None),
        (ErrorEvent(2, with_done=True), 4, None),
        (RoleOnlyThen(CutAfter(0)), 1, CLOSED),
        (RoleOnlyThen(Silent(0.05)), 1, CLOSED),
        (NoLength(), EVENTS, None),
        (SlowEvents(0.1), EVENTS, None),
        (NoLastBlank(), EVENTS - 1, None),
        (Say("one two", CutAfter(2)), 2, CLOSED),
    ],
)
def test_streams_break_where_the_fault_says(
    double: OpenAIDouble, client: httpx.Client, fault: Fault, events: int, broken: type[Exception] | None
) -> None:
    double.script(fault)
    got, how = received(client)
    assert (got.count(b"\n\n"), how) == (events, broken)
    assert received(client)[0].endswith(b"data: [DONE]\n\n")


def test_a_reset_takes_with_it_what_was_not_read(double: OpenAIDouble, client: httpx.Client) -> None:
    double.script(CutAfter(40, "reset"))
    got, how = received(client)
    assert (got.count(b"\n\n") <= 40, how) == (True, httpx.ReadError)


def test_a_chunk_that_is_cut_in_two(double: OpenAIDouble, client: httpx.Client) -> None:
    double.script(CutAfter(3, "mid-chunk"))
    got, how = received(client)
    assert (got.count(b"\n\n"), how) == (3, CLOSED)
    assert got.endswith(b'{"id":"chatcm')


@pytest.mark.parametrize(
    "fault",
    [CRLF(), Comments(), BOM(), MultiLineData(), EventsCutAt((1, 2, 5)), HugeEvent(2_000_000), WrongUsage(), Fine()],
    ids=["CRLF", "Comments", "BOM", "MultiLineData", "EventsCutAt", "HugeEvent", "WrongUsage", "Fine"],
)
def test_odd_streams_that_an_official_client_reads(double: OpenAIDouble, fault: Fault) -> None:
    double.script(fault)
    with openai.OpenAI(base_url=double.url, api_key=double.key, max_retries=0) as client:
        question = openai.types.chat.ChatCompletionUserMessageParam(role="user", content="hi")
        chunks = client.chat.completions.create(
            model="gpt-4o", messages=[question], stream=True, stream_options={"include_usage": True}
        )
        said = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert said == derived("hi")


def test_bytes_of_the_oddities(double: OpenAIDouble, client: httpx.Client) -> None:
    double.script(CRLF(), BOM(), MultiLineData(), Fields(), HugeEvent(1_000_000), MalformedEvent(3))
    assert b"\r\n\r\ndata: {" in ask(client).content
    assert ask(client).content.startswith(b"\xef\xbb\xbfdata: ")
    assert ask(client).content.startswith(b'data:{\ndata: "id":')
    assert ask(client).content.startswith(b"id: 0\nretry: 3000\ndata: {")
    assert max(map(len, ask(client).content.split(b"\n"))) > 1_000_000
    bad = ask(client).content.split(b"\n\n")
    assert not bad[3].endswith(b"}")
    assert bad[4].endswith(b"}")


def test_signs_of_life_before_the_answer(double: OpenAIDouble, client: httpx.Client) -> None:
    double.script(KeepAlive(2, 0.01), KeepAlive(3, 0.01))
    assert ask(client).content.startswith(b": keep-alive\n\n: keep-alive\n\ndata: {")
    assert ask(client, stream=False).content.startswith(b"\n\n\n{")


def test_usage_that_is_wrong_or_missing(double: OpenAIDouble, client: httpx.Client) -> None:
    double.script(WrongUsage(1, 7), WrongUsage(None, None))
    usage = ask(client, stream=False).json()["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (1, 7, 8)
    assert "usage" not in ask(client, stream=False).json()


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (Status(429, retry_after=0.1, retry_after_ms=100), 429, "rate_limit_exceeded"),
        (Status(429, code="insufficient_quota"), 429, "insufficient_quota"),
        (Status(503), 503, "server_is_overloaded"),
        (ErrorIn200(), 200, "server_error"),
        (ContextLength(), 400, "context_length_exceeded"),
        (ContentFilter(), 400, "content_policy_violation"),
    ],
)
def test_errors_in_openai_form(
    double: OpenAIDouble, client: httpx.Client, fault: Fault, status: int, code: str
) -> None:
    double.script(fault)
    response = ask(client)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert (response.json()["error"]["type"] == code) is (code in ("insufficient_quota", "server_error"))
    assert response.headers["x-request-id"]


def test_faults_of_whole_answers(double: OpenAIDouble, client: httpx.Client) -> None:
    double.script(Status(429, retry_after=2), HtmlIn200(), Redirect("http://127.0.0.1:1/"), WholeForStream())
    double.script(StreamForWhole(), GzipBomb(1_000_000), CutAfter())
    assert ask(client).headers["retry-after"] == "2"
    assert ask(client).text.startswith("<!DOCTYPE html>")
    assert ask(client).headers["location"] == "http://127.0.0.1:1/"
    assert ask(client).json()["object"] == "chat.completion"
    assert ask(client, stream=False).content.endswith(b"data: [DONE]\n\n")
    bomb = ask(client)
    assert (len(bomb.content), int(bomb.headers["content-length"]) < 2000) == (1_000_000, True)
    with pytest.raises(CLOSED):
        ask(client, stream=False)


def test_a_kept_connection_that_closes_when_it_is_used_again(double: OpenAIDouble, client: httpx.Client) -> None:
    double.script(CloseOnReuse())
    assert ask(client).status_code == 200
    with pytest.raises(CLOSED, match="without sending a response"):
        ask(client)
    assert ask(client).status_code == 200
    assert (len(double.calls), double.connections_made) == (3, 2)


def test_a_kept_connection_that_closes_at_once(double: OpenAIDouble, client: httpx.Client) -> None:
    double.script(CloseAfter())
    assert "connection" not in ask(client).headers
    wait_for(lambda: double.open_connections == 0)
    assert ask(client).status_code == 200


def test_scripts_run_out_leave_the_catalogue_alone_and_may_last(double: OpenAIDouble, client: httpx.Client) -> None:
    double.script(Flap(2), Status(500))
    double.script(Status(403), on="/models")
    assert client.get("/models").status_code == 403
    assert [ask(client).status_code for _ in range(4)] == [503, 503, 500, 200]
    assert client.get("/models").status_code == 200
    double.script(down_for(0.05))
    assert ask(client).status_code == 503
    wait_for(lambda: ask(client).status_code == 200)
    double.always = Status(418)
    assert [ask(client).status_code for _ in range(2)] == [418, 418]
    assert len(double.requests) - len(double.calls) == 2


def test_a_prefill_is_refused_or_continued(double: OpenAIDouble, client: httpx.Client) -> None:
    half, rest = derived("hi")[:50], derived("hi")[50:]
    messages = [*BODY["messages"], {"role": "assistant", "content": half}]
    double.prefill = True
    assert ask(client, False, messages=messages).json()["choices"][0]["message"]["content"] == rest
    double.script(RejectPrefill(), RejectPrefill())
    assert ask(client, False, messages=messages).status_code == 400
    assert ask(client, False).status_code == 200


@pytest.mark.parametrize("fault", [Held(), HoldAfter(3), Silent(), StallAfter(5), HeadersThenSilence()])
def test_a_client_that_leaves_is_seen_at_once(double: OpenAIDouble, fault: Fault) -> None:
    double.script(fault)

    async def leave() -> None:
        async with httpx.AsyncClient(trust_env=False) as client:
            headers = {"authorization": f"Bearer {double.key}"}
            call = client.post(f"{double.url}/chat/completions", json={**BODY, "stream": True}, headers=headers)
            task = asyncio.create_task(call)
            await until(lambda: double.requests)
            task.cancel()
            await asyncio.wait([task])

    asyncio.run(leave())
    wait_for(lambda: double.disconnects and not double.open_connections)
    assert [gone.request for gone in double.disconnects] == double.requests
    assert double.answers == 0


def test_answers_that_hold_go_on_when_released(double: OpenAIDouble, client: httpx.Client) -> None:
    double.script(HoldAfter(3))
    with client.stream("POST", "/chat/completions", json={**BODY, "stream": True}) as response:
        lines = response.iter_lines()
        assert [next(lines) != "" for _ in range(6)] == [True, False] * 3
        double.release()
        assert sum(line != "" for line in lines) == EVENTS - 3
    wait_for(lambda: double.answers == 1)
    assert double.disconnects == []


def test_down_is_refused_until_up_again(double: OpenAIDouble, client: httpx.Client) -> None:
    assert ask(client).status_code == 200
    port = double.port
    double.down()
    with pytest.raises(httpx.TransportError):
        ask(client)
    with pytest.raises(httpx.ConnectError):
        ask(client)
    double.up()
    assert (ask(client).status_code, double.port) == (200, port)


def test_stop_ends_what_is_under_way_and_a_defect_of_the_double_is_raised() -> None:
    started = time.monotonic()
    with pytest.raises(ZeroDivisionError), OpenAIDouble() as double:
        double.script(Silent(), lambda double, request: 1 // 0)  # type: ignore[arg-type]

        async def ask_both() -> list[object]:
            async with httpx.AsyncClient(trust_env=False) as client:
                url, headers = f"{double.url}/chat/completions", {"authorization": f"Bearer {double.key}"}
                first = asyncio.create_task(client.post(url, json=BODY, headers=headers))
                await until(lambda: double.requests)
                second = await asyncio.gather(client.post(url, json=BODY, headers=headers), return_exceptions=True)
                first.cancel()
                return list(second)

        assert isinstance(asyncio.run(ask_both())[0], httpx.TransportError)
    assert time.monotonic() - started < 5


def test_bytes_that_are_no_http_get_400(double: OpenAIDouble) -> None:
    async def send() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", double.port)
        writer.write(b"\x16\x03\x01 hello\r\n\r\n")
        answer = await reader.read()
        writer.close()
        return answer

    assert asyncio.run(send()).startswith(b"HTTP/1.1 400 ")
