"""Queries between workers."""

import asyncio
from pathlib import Path

import orjson
import pytest

from proxy.instruments import Instruments
from proxy.serving.siblings import Siblings


def test_who_asks_and_does_not_wait_for_the_answer_is_no_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        instruments = Instruments()
        family = instruments.counter("sluice_tried_total", "", "model")
        for number in range(20_000):  # more than a socket's buffers hold
            family.labels(f"model-{number}").inc()
        one = Siblings(tmp_path, "0-1", instruments)
        await one.open()
        _, writer = await asyncio.open_unix_connection(tmp_path / "0-1.sock")
        writer.write(b"numbers\n")
        writer.transport.abort()
        other = Siblings(tmp_path, "1-2", Instruments())
        assert [len(told["sluice_tried_total"]) for told in await other.gather()] == [20_000]
        await one.close()

    asyncio.run(run())
    assert not caplog.records


def test_the_others_are_asked_by_a_word_and_who_knows_it_answers(tmp_path: Path) -> None:
    async def run() -> None:
        one = Siblings(tmp_path, "0-1", Instruments(), {"calls": lambda: [{"id": "a"}]})
        two = Siblings(tmp_path, "1-2", Instruments(), {"calls": lambda: [{"id": "b"}], "steps": lambda: [[5, {}]]})
        for each in (one, two):
            await each.open()
        (tmp_path / "2-3.sock").touch()  # of one that was killed
        asker = Siblings(tmp_path, "3-4", Instruments(), {"calls": lambda: [{"id": "own"}]})
        assert sorted(told[0]["id"] for told in await asker.ask_all("calls")) == ["a", "b"]
        assert await one.ask_all("steps") == [[[5, {}]]]
        assert await one.ask_all("nothing of that name") == []
        for each in (one, two):
            await each.close()

    asyncio.run(run())


def test_one_that_is_too_busy_to_answer_is_not_taken_for_one_that_needs_nothing(tmp_path: Path) -> None:
    under_way = [1.0, 1.0, 0.0]

    async def busy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        if len(under_way) == 3:
            await asyncio.sleep(0.7)  # more than it has to tell its numbers for /metrics
        writer.write(orjson.dumps({"sluice_in_flight": [[["local"], [under_way.pop(0)]]]}))
        writer.close()

    async def run() -> None:
        async with await asyncio.start_unix_server(busy, tmp_path / "0-1.sock"):
            await Siblings(tmp_path, "1-2", Instruments()).unneeded({"local"}, 60)

    asyncio.run(run())
    assert under_way == []
