"""`sluice bench` measures a real Sluice, and says so where it cannot."""

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.cli import main
from proxy.cli.load import EVENTS, BenchFailed, Load, Upstream, press


def test_it_prints_the_overhead_of_sluice(tmp_path: Path) -> None:
    environ = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    (tmp_path / "proxy.py").write_text("raise SystemExit('this is not Sluice')")
    command = [sys.executable, "-P", "-m", "proxy", "bench", "--seconds", "0.3"]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["direct", "sluice"]
    for line in lines[1:3]:
        assert re.search(r" [\d,]+ +[\d,]+  x \d\.\d\d$", line)
    for line in lines[3:5]:
        assert re.search(r" \d+\.\d\d +\d+\.\d\d  [+-]\d+\.\d\d ms$", line)
    assert [left.name for left in tmp_path.iterdir()] == ["proxy.py"]  # nothing is left behind


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "soon"])
def test_an_invalid_duration_is_bad_input(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bench", "--seconds", seconds])
    assert ended.value.code == 2
    assert f"--seconds: expected a number above 0, got '{seconds}'" in capsys.readouterr().err


@pytest.mark.parametrize("load", [Load(stream=False, connections=3), Load(stream=True, connections=3)])
def test_answers_and_events_are_counted(load: Load) -> None:
    async def direct() -> None:
        server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", 0)
        async with server:
            tally = await press(server.sockets[0].getsockname()[1], load, 0.1)
        assert tally.requests == len(tally.latencies) >= 3
        assert tally.events == (tally.requests * (EVENTS + 2) if load.stream else 0)
        assert 0 < tally.latency(0.5) <= tally.latency(0.99)

    asyncio.run(direct())


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\ncut",
        b"rubbish\r\n\r\n",
        b"",
    ],
)
def test_a_bad_answer_fails_the_measurement(answer: bytes) -> None:
    async def bad(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    async def measured() -> None:
        async with await asyncio.start_server(bad, "127.0.0.1", 0) as server:
            with pytest.raises(BenchFailed):
                await press(server.sockets[0].getsockname()[1], Load(stream=False, connections=2), 0.5)

    asyncio.run(measured())
