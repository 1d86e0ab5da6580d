"""The embedded model answers, comes back when it dies, and ends with whoever started it."""

import json
import os
import select
import signal
import subprocess
import sys
import time
import venv
from pathlib import Path

import pytest

from proxy.providers.contract import Provider, Request, Target
from proxy.upstream.embedded import EmbeddedModel
from proxy.upstream.sending import Upstreams
from tests.upstream.conftest import Run
from tests.waiting import until

pytest.importorskip("xllamacpp")


def children() -> list[int]:
    """Process ids of our children that serve a model."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and _serves(int(entry)):
            found.append(int(entry))
    return found


def _serves(pid: int, parent: int | None = None) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        command = Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False
    return (
        f"\nPPid:\t{parent or os.getpid()}\n" in status
        and "proxy.upstream.llama" in command
        and "State:\tZ" not in status
    )


async def answer(model: EmbeddedModel) -> str:
    target = Target("local", "smol", Provider(), model.base, "")
    body = b'{"messages": [{"role": "user", "content": "What is 2+2?"}], "max_tokens": 24, "temperature": 0}'
    upstreams = Upstreams()
    try:
        found = json.loads((await upstreams.fetch(target, Request("/v1/chat/completions", body), 60)).body)
        assert found["model"] == "smol"
        return str(found["choices"][0]["message"]["content"])
    finally:
        await upstreams.aclose()


def test_it_answers_and_comes_back_after_it_was_killed(run: Run) -> None:
    async def main() -> None:
        model = EmbeddedModel(None, "smol", threads=1)
        assert model.state == "stopped"
        await model.start()
        await model.start()
        assert model.state == "starting"
        try:
            await until(lambda: model.state == "ready")
            assert "4" in await answer(model)
            (child,) = children()
            os.kill(child, signal.SIGINT)  # as Ctrl-C sends it to all, while running calls may finish
            os.kill(child, signal.SIGTERM)
            assert await answer(model) and children() == [child]
            base = model.base
            os.kill(child, signal.SIGKILL)
            await until(lambda: model.state.startswith("failed: "))
            assert "status -9" in model.state
            await until(lambda: model.state == "ready")
            assert model.base == base
            assert children() != [child]
            assert await answer(model)
        finally:
            await model.stop()
        assert model.state == "stopped"
        assert children() == []

    run(main())


def test_what_is_no_model_fails_with_the_reason(run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        missing = EmbeddedModel(tmp_path / "none.gguf", "x", threads=1)
        await missing.start()
        assert missing.state == "failed: there is no file none.gguf"
        assert "cannot be started: there is no file none.gguf" in caplog.text
        await missing.stop()
        rubbish = tmp_path / "rubbish.gguf"
        rubbish.write_bytes(b"no model")
        broken = EmbeddedModel(rubbish, "x", threads=1)
        await broken.start()
        await until(lambda: broken.state.startswith("failed: "))
        assert "init" in broken.state
        await broken.stop()
        assert children() == []

    run(main())


def test_it_is_stopped_while_it_starts(run: Run) -> None:
    async def main() -> None:
        model = EmbeddedModel(None, "smol", threads=1)
        await model.start()
        await until(lambda: len(children()) == 1)
        await model.stop()
        assert children() == []

    run(main())


PARENT = """
import asyncio
from proxy.upstream.embedded import EmbeddedModel

async def main():
    model = EmbeddedModel(None, "smol", threads=1)
    await model.start()
    while model.state != "ready":
        await asyncio.sleep(0.01)
    print("ready", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


def test_its_packages_are_found_where_ours_are(tmp_path: Path) -> None:
    """In folders that only PYTHONPATH names, say."""
    venv.create(tmp_path / "bare")
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [str(tmp_path / "bare/bin/python"), "-c", PARENT]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        try:
            found, _, _ = select.select([parent.stdout], [], [], 30)
            assert found and parent.stdout.readline() == b"ready\n"
        finally:
            parent.kill()


def test_it_dies_with_a_parent_that_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        (child,) = [int(entry) for entry in os.listdir("/proc") if entry.isdigit() and _serves(int(entry), parent.pid)]
        parent.kill()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{child}").exists() and "State:\tZ" not in Path(f"/proc/{child}/status").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
