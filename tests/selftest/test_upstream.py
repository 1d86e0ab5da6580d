"""Which target plays the fault, how often it was asked, and when a caller left."""

import asyncio

import orjson

from proxy.selftest import faults
from proxy.selftest.upstream import FaultUpstreams, counted_at, healthy
from tests.selftest.exchanges import FULL_TEXT, line, request, upstreams


async def gone(behind: FaultUpstreams) -> None:
    """Waits until the upstream has seen its client leave."""
    async with asyncio.timeout(2):
        while behind.asked[0].gone_at is None:
            await asyncio.sleep(0.001)


def test_the_first_target_asked_is_the_faulty_one() -> None:
    async def exchange() -> None:
        async with upstreams(faults.refused(503, "Down.")) as behind:
            first, other = await line(behind, "other"), await line(behind, "up")
            assert (await first.ask(request("n"))).status == 503
            right = await other.ask(request("m"))
            assert (right.status, right.text, right.counted) == (200, FULL_TEXT, counted_at(1))
            assert (await first.ask(request("n"))).status == 503
            assert [behind.place_of(asked) for asked in behind.asked] == [0, 1, 0]
            assert [asked.status for asked in behind.at(0)] == [503, 503]
            assert [asked.reused for asked in behind.at(0)] == [False, True]
            first.writer.close()
            other.writer.close()

    asyncio.run(exchange())


def test_a_fault_can_end_after_some_requests() -> None:
    async def exchange() -> None:
        async with upstreams(faults.times(2, faults.refused(500, "No."))) as behind:
            there = await line(behind)
            assert [(await there.ask(request())).status for _ in range(3)] == [500, 500, 200]
            there.writer.close()

    asyncio.run(exchange())


def test_a_fault_can_end_after_some_time() -> None:
    async def exchange() -> None:
        async with upstreams(faults.down_for(20, faults.refused(500, "No."))) as behind:  # 20 ms on these clocks
            there = await line(behind)
            assert (await there.ask(request())).status == 500
            async with asyncio.timeout(5):
                while (await there.ask(request())).status == 500:
                    await asyncio.sleep(0.001)
            assert behind.asked[-1].at - behind.asked[0].at >= 0.02
            there.writer.close()

    asyncio.run(exchange())


def test_a_flapping_upstream_answers_one_request_in_three() -> None:
    async def exchange() -> None:
        async with upstreams(faults.flapping(faults.refused(500, "No."))) as behind:
            there = await line(behind)
            assert [(await there.ask(request())).status for _ in range(6)] == [500, 500, 200, 500, 500, 200]
            there.writer.close()

    asyncio.run(exchange())


def test_a_kept_alive_connection_can_close_on_the_second_request() -> None:
    async def exchange() -> None:
        async with upstreams(faults.closes_on_reuse) as behind:
            there = await line(behind)
            assert (await there.ask(request())).text == FULL_TEXT
            assert not there.closed
            assert (await there.ask(request())).status == 0
            assert there.closed and len(behind.asked) == 1, "it does not count what it did not take"
            there.writer.close()
            again = await line(behind)
            assert (await again.ask(request())).text == FULL_TEXT
            again.writer.close()

    asyncio.run(exchange())


def test_the_time_at_which_a_caller_left_is_recorded() -> None:
    async def exchange() -> None:
        async with upstreams(faults.silent) as behind:
            there = await line(behind)
            assert (await there.ask(request(), 0.05)).hung
            assert behind.asked[0].gone_at is None
            there.writer.close()
            await gone(behind)
            assert behind.asked[0].answered_at is None

    asyncio.run(exchange())


def test_an_answered_request_counts_as_not_abandoned() -> None:
    async def exchange() -> None:
        async with upstreams(healthy) as behind:
            there = await line(behind)
            await there.ask(request())
            there.writer.close()
            await there.writer.wait_closed()
            assert behind.asked[0].answered_at is not None and behind.asked[0].gone_at is None
            assert behind.asked[0].sent > 5000

    asyncio.run(exchange())


def test_lists_of_models_are_not_counted_as_calls() -> None:
    async def exchange() -> None:
        async with upstreams(faults.refused(503, "Down."), "ollama") as behind:
            for name, path, key, model in (("up", "/api/tags", "models", "m"), ("other", "/v1/models", "data", "n")):
                there = await line(behind, name)
                await there.ask(b"GET %b HTTP/1.1\r\nhost: x\r\n\r\n" % path.encode())
                (entry,) = orjson.loads(there.raw.partition(b"\r\n\r\n")[2])[key]
                assert model in entry.values()
                there.writer.close()
            there = await line(behind)
            assert (await there.ask(b"GET /nowhere HTTP/1.1\r\nhost: x\r\n\r\n")).status == 404
            there.writer.close()
            assert behind.asked == []

    asyncio.run(exchange())
