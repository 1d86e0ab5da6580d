"""A long load of mixed calls against a real `sluice serve`: memory, files and calls under way must stay flat."""

import argparse
import asyncio
import os
import random
import re
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

MOST_GROWTH: Final = 20.0  # MiB of resident memory, over what the process has once it is warm
MOST_FILES: Final = 16  # open files more than when it was warm and idle: kept connections to the upstream come and go
WARM: Final = 2_000  # calls until code, buffers and the ring of the last calls are in memory
PATIENCE: Final = 30.0  # seconds that any one call may take
CONFIG: Final = """
server: {{port: 0, ping: 500ms}}
access: {{metrics: open}}
store: sqlite:///soak.db
upstreams:
  east: {{provider: openai, base_url: "http://127.0.0.1:{port}/v1", models: [fine, fails, cuts, stalls, large]}}
  west: {{provider: openai, base_url: "http://127.0.0.1:{port}/v1", models: [fine]}}
defaults:
  timeouts: {{connect: 2s, first_token: 2s, idle: 3s, whole: 10s}}
  retry: {{attempts: 2, backoff: 1ms, max_backoff: 5ms}}
  breaker: {{failures: 1000000000, open_for: 1s}}
routes:
  - {{model: falls-back, to: [east/fails, west/fine]}}
log: {{format: json, level: info}}
"""
CHUNK: Final = (
    b'data: {"id":"c","object":"chat.completion.chunk","model":"m",'
    b'"choices":[{"index":0,"delta":{"content":"%s"},"finish_reason":null}]}\n\n'
)
FINISH: Final = b'data: {"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
USAGE: Final = b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":9}}\n\n'
WHOLE: Final = (
    b'{"id":"c","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant",'
    b'"content":"hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1}}'
)
FAILURE: Final = b'{"error":{"message":"broken","type":"server_error","param":null,"code":null}}'
_LENGTH: Final = re.compile(rb"content-length: (\d+)", re.I)
_MODEL: Final = re.compile(rb'"model":\s*"([^"]+)"')


# The upstream: one asyncio server, written to cost little.


async def upstream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers by the model's name: fine, large, fails (500), cuts (ends in mid-stream), stalls (falls silent)."""
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            found = _LENGTH.search(head)
            body = await reader.readexactly(int(found[1])) if found else b""
            asked = _MODEL.search(body)
            model = asked[1] if asked else b"fine"
            if model == b"fails":
                writer.write(answered(b"500 Internal Server Error", FAILURE))
            elif b'"stream":true' not in body:
                writer.write(
                    answered(b"200 OK", WHOLE if model != b"large" else WHOLE.replace(b"hello", b"x" * 200_000))
                )
            elif not await streamed(model, writer):
                return
            await writer.drain()
    except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
        pass  # the proxy has let go of the connection, or the soak is over
    finally:
        writer.close()


def answered(status: bytes, body: bytes) -> bytes:
    """A whole HTTP answer."""
    return b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (status, len(body), body)


async def streamed(model: bytes, writer: asyncio.StreamWriter) -> bool:
    """Sends a stream; False where it did not come to its end."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
    text, count = (b"x" * 10_000, 100) if model == b"large" else (b"hello", 8)
    for at in range(count):
        event = CHUNK % text
        writer.write(b"%x\r\n%s\r\n" % (len(event), event))
        if at == 3 and model in (b"cuts", b"stalls"):
            await writer.drain()
            await asyncio.sleep(0 if model == b"cuts" else 8)
            return False
        if at % 4 == 0:
            await writer.drain()
            await asyncio.sleep(0)
    end = FINISH + USAGE + b"data: [DONE]\n\n"
    writer.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(end), end))
    return True


# The clients: each kind of call opens its own connection or keeps one, and says whether the answer was right.


@dataclass(slots=True)
class Client:
    """One client; `seed` makes its choices repeatable. Connections are kept where the call allows it."""

    port: int
    seed: int
    seen: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    _open: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def run(self, left: list[int]) -> None:
        """Makes calls until `left` has come down to nothing."""
        dice = random.Random(self.seed)
        kinds: dict[str, tuple[int, Callable[[], Awaitable[str]]]] = {
            "whole": (90, self.whole), "stream": (70, self.stream), "falls back": (12, self.falls_back),
            "fails": (10, self.fails), "bad": (10, self.bad), "leaves": (6, self.leaves), "cut": (3, self.cut),
            "slow": (1, self.slow), "stall": (0, self.stall),
        }  # fmt: skip
        names, weights = list(kinds), [weight for weight, _ in kinds.values()]
        while left[0] > 0:
            left[0] -= 1
            name = dice.choices(names, weights)[0] if left[0] % 2000 != 1000 else "stall"  # not the last one
            try:
                async with asyncio.timeout(PATIENCE):
                    problem = await kinds[name][1]()
            except (OSError, EOFError, TimeoutError, ValueError) as error:
                problem = repr(error)[:80]
                self.close()
            self.seen[name] += 1
            if problem:
                self.wrong[f"{name}: {problem}"] += 1
        self.close()

    async def whole(self) -> str:
        """An answer in one piece."""
        status, body = await self.ask(request("east/fine"))
        return "" if status == 200 and body == WHOLE else f"{status} {body[:80]!r}"

    async def stream(self) -> str:
        """A stream that ends well."""
        status, body = await self.ask(request("east/fine", stream=True))
        right = (
            status == 200 and body.count(b"hello") == 8 and body.endswith(b"data: [DONE]\n\n") and b"usage" not in body
        )
        return "" if right else f"{status} {body[-80:]!r}"

    async def falls_back(self) -> str:
        """A target that fails before one that answers."""
        status, body = await self.ask(request("falls-back", stream=True))
        return "" if status == 200 and body.endswith(b"data: [DONE]\n\n") else f"{status} {body[-80:]!r}"

    async def fails(self) -> str:
        """An upstream that answers 500."""
        status, body = await self.ask(request("east/fails"))
        return "" if status == 502 and b'"upstream_error"' in body else f"{status} {body[:80]!r}"

    async def bad(self) -> str:
        """A mistake of the client's."""
        status, body = await self.ask(request("east/nothing"))
        return "" if status == 404 and b'"model_not_found"' in body else f"{status} {body[:80]!r}"

    async def cut(self) -> str:
        """A stream that breaks: an error event, and no end as if all were well."""
        status, body = await self.ask(request("east/cuts", stream=True))
        return "" if status == 200 and b'"upstream_' in body and b"[DONE]" not in body else f"{status} {body[-80:]!r}"

    async def stall(self) -> str:
        """A stream that falls silent."""
        status, body = await self.ask(request("east/stalls", stream=True))
        return "" if status == 200 and b'"upstream_timeout_idle"' in body else f"{status} {body[-80:]!r}"

    async def leaves(self) -> str:
        """A client that goes away in the middle."""
        reader, writer = await self.opened()
        writer.write(request("east/large", stream=True))
        await reader.read(100)
        self.close()
        return ""

    async def slow(self) -> str:
        """A reader that lets the proxy wait."""
        reader, writer = await self.opened()
        writer.write(request("east/large", stream=True))
        size = 0
        for _ in range(5):
            size += len(await reader.read(20_000))
            await asyncio.sleep(0.02)
        while not (piece := await reader.read(1 << 18)).endswith(b"0\r\n\r\n"):
            size += len(piece)
            if not piece:
                return f"ended after {size} bytes"
        return "" if size + len(piece) > 1_000_000 else f"only {size} bytes"

    async def ask(self, sent: bytes) -> tuple[int, bytes]:
        """One exchange on the connection that is kept: status and body."""
        reader, writer = await self.opened()
        writer.write(sent)
        head = await reader.readuntil(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        if found := _LENGTH.search(head):
            body = await reader.readexactly(int(found[1]))
        else:
            pieces = []
            while size := int(await reader.readline(), 16):
                pieces.append((await reader.readexactly(size + 2))[:-2])
            await reader.readline()
            body = b"".join(pieces)
        if b"connection: close" in head.lower():
            self.close()
        return status, body

    async def opened(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The connection that is kept, or a new one."""
        if self._open is None or self._open[0].at_eof():
            self.close()
            self._open = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 18)
        return self._open

    def close(self) -> None:
        """Lets go of the connection."""
        if self._open is not None:
            self._open[1].close()
            self._open = None


def request(model: str, stream: bool = False) -> bytes:
    """A chat completion's bytes."""
    body = b'{"model":"%s","messages":[{"role":"user","content":"hello"}]%s}' % (
        model.encode(), b',"stream":true' if stream else b""
    )  # fmt: skip
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n%s" % (len(body), body)
    )


# The proxy, and what is looked at.


@dataclass(frozen=True, slots=True)
class Look:
    """How the proxy stood: seconds since the start, calls made, MiB resident, open files, calls under way."""

    seconds: float
    calls: int
    resident: float
    files: int
    under_way: float

    def line(self) -> str:
        """A row of the table."""
        return f"{self.seconds:8.1f} {self.calls:8d} {self.resident:10.1f} {self.files:6d} {self.under_way:10.0f}"


@dataclass(slots=True)
class Proxy:
    """The process under load."""

    pid: int
    port: int
    began: float = field(default_factory=time.monotonic)

    async def look(self, calls: int) -> Look:
        """How it stands now."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        files = len(os.listdir(f"/proc/{self.pid}/fd"))
        resident = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
        return Look(time.monotonic() - self.began, calls, resident, files, await self.under_way())

    async def under_way(self) -> float:
        """Attempts and streams that the proxy thinks are going on."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(b"GET /metrics HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n")
        text = (await reader.read()).decode()
        writer.close()
        found = re.findall(r"^sluice_(?:in_flight|streams_open)(?:\{[^}]*\})? (\S+)$", text, re.M)
        return sum(map(float, found))

    async def idle(self, calls: int) -> Look:
        """How it stands once everything has come to its end, or after ten seconds."""
        for _ in range(100):
            await asyncio.sleep(0.1)
            if (look := await self.look(calls)).under_way == 0:
                break
        return look


@asynccontextmanager
async def served(folder: Path, port: int) -> AsyncIterator[Proxy]:
    """`sluice serve` as its own process before the upstream at `port`; ended by SIGTERM."""
    (folder / "config.yaml").write_text(CONFIG.format(port=port))
    log = folder / "log"
    with log.open("wb") as output:  # a file, so that no log waits for a reader
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "proxy", "serve", "--config", str(folder / "config.yaml")),
            env={"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(Path(__file__).parent.parent)},
            stderr=output,
            cwd=folder,
        )
    try:
        for _ in range(600):
            await asyncio.sleep(0.05)
            if found := re.search(r"listens on http://127\.0\.0\.1:(\d+)", log.read_text()):
                break
        else:
            raise OSError(f"the proxy did not start: {log.read_text()}")
        yield Proxy(process.pid, int(found[1]))
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
    errors = [line for line in log.read_text().splitlines() if '"level":"error"' in line]
    if errors or process.returncode:
        raise OSError(f"the proxy ended with {process.returncode}, its log has {len(errors)} errors: {errors[:1]}")


async def soak(calls: int, clients: int) -> int:
    """Runs the load and prints how the proxy stood. The exit code: 0 where everything was flat and right."""
    server = await asyncio.start_server(upstream, "127.0.0.1", 0)
    with TemporaryDirectory() as folder:
        async with served(Path(folder), server.sockets[0].getsockname()[1]) as proxy:
            everybody = [Client(proxy.port, seed) for seed in range(clients)]
            print(" seconds    calls   RSS(MiB)  files  under way")
            warm = await round_of(proxy, everybody, WARM, 0)
            looks = [await round_of(proxy, everybody, calls // 5, WARM + calls // 5 * at) for at in range(5)]
    server.close()
    return judged(warm, looks, everybody)


async def round_of(proxy: Proxy, everybody: list[Client], calls: int, before: int) -> Look:
    """So many calls by all clients together, then a look at the proxy once it is idle."""
    left = [calls]
    async with asyncio.TaskGroup() as group:
        for client in everybody:
            group.create_task(client.run(left))
    look = await proxy.idle(before + calls)
    print(look.line(), flush=True)
    return look


def judged(warm: Look, looks: list[Look], everybody: list[Client]) -> int:
    """Prints what was found; 0 where all is well."""
    seen = sum((client.seen for client in everybody), Counter[str]())
    wrong = sum((client.wrong for client in everybody), Counter[str]())
    last = looks[-1]
    growth, files = last.resident - warm.resident, last.files - warm.files
    print("calls:", ", ".join(f"{name} {count}" for name, count in seen.most_common()))
    problems = [f"{count} x {what}" for what, count in wrong.most_common(10)]
    if growth > MOST_GROWTH:
        problems.append(f"memory grew by {growth:.1f} MiB (at most {MOST_GROWTH:.0f})")
    if files > MOST_FILES:
        problems.append(f"{files} files more are open (at most {MOST_FILES})")
    if stuck := [look.under_way for look in looks if look.under_way]:
        problems.append(f"calls never ended: {stuck}")
    print(
        f"memory {growth:+.1f} MiB, files {files:+d}, {last.calls / last.seconds:.0f} calls/s:",
        "FAIL" if problems else "PASS",
    )
    for problem in problems:
        print(" -", problem)
    return 1 if problems else 0


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--quick", action="store_true", help="2,000 calls behind the warm-up, some 8 seconds")
    arguments = parser.parse_args()
    return asyncio.run(soak(2_000 if arguments.quick else arguments.calls, arguments.clients))


if __name__ == "__main__":
    sys.exit(main())
