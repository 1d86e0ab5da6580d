"""Processes of the bench: started on a core, measured from /proc, ended by their id."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

TICK: Final = 1 / os.sysconf("SC_CLK_TCK")  # seconds
PAGE: Final = os.sysconf("SC_PAGE_SIZE")  # bytes


class BenchError(Exception):
    """The bench cannot go on; the message says why."""


@contextmanager
def running(command: Sequence[str], on: str, log: Path, cwd: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A process pinned to cores ("0", "0,1"), its output in `log`. It is ended with the scope, however that ends."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["taskset", "-c", on, *command],
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for the driver alone, which then ends its processes one by one
        )
    try:
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen[bytes], patience: float = 10.0) -> None:
    """Asks the process to end, waits `patience` seconds, and kills what is left of it and of what it started."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(patience)
    with suppress(ProcessLookupError):  # nothing is left
        os.killpg(process.pid, signal.SIGKILL)  # it leads the group that `running` gave it
    process.wait()


def unwind_on_signals() -> None:
    """Makes Ctrl-C and SIGTERM leave by SystemExit, so that every scope ends its process."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _: sys.exit(128 + received))


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on just now."""

    async def bind() -> int:
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        async with server:
            return int(server.sockets[0].getsockname()[1])

    return asyncio.run(bind())


def until_answering(port: int, process: subprocess.Popen[bytes], log: Path, patience: float = 30.0) -> float:
    """Seconds until GET /livez is answered by 200. Raises BenchError where the process ends or `patience` does."""
    began = time.perf_counter()
    while not asyncio.run(_lives(port)):
        if process.poll() is not None or time.perf_counter() - began > patience:
            tail = log.read_text(errors="replace").strip()[-2000:]
            raise BenchError(f"{log.stem} does not answer on port {port}:\n{tail}")
        time.sleep(0.002)
    return time.perf_counter() - began


async def _lives(port: int) -> bool:
    try:
        async with asyncio.timeout(1):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            line = await reader.readline()
            writer.close()
            return line.split(b" ")[1:2] == [b"200"]
    except OSError:  # nobody listens yet (TimeoutError is one too)
        return False


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat behind the name (proc(5): field n is at n - 3), or nothing: it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def tree(pid: int) -> list[int]:
    """The process and all its descendants that are alive."""
    stats = {int(entry.name): _stat(int(entry.name)) for entry in Path("/proc").iterdir() if entry.name.isdigit()}
    found = [pid] if stats.get(pid) else []
    for parent in found:  # grows as it is walked
        found.extend(child for child, stat in stats.items() if stat and int(stat[1]) == parent)
    return found


def cpu_seconds(pid: int) -> float:
    """User and system time that the process and its living descendants have used."""
    return sum(sum(map(int, stat[11:13])) for each in tree(pid) if (stat := _stat(each))) * TICK


def resident_mib(pid: int) -> float:
    """Resident memory of the process and its descendants, in MiB; pages they share are counted for each."""
    return sum(int(stat[21]) for each in tree(pid) if (stat := _stat(each))) * PAGE / 2**20


def foreign_cpu_seconds() -> float:
    """CPU time used so far by everybody on this machine but this bench (a reading; only differences mean something)."""
    user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    reaped = _stat(os.getpid())[13:15]  # of children that have ended, the load generators
    ours = cpu_seconds(os.getpid()) + sum(map(int, reaped)) * TICK
    return (user + nice + system + irq + softirq + steal) * TICK - ours


def machine() -> dict[str, str | int]:
    """What a reader of the figures must know about the machine."""
    cpu = next((x for x in Path("/proc/cpuinfo").read_text().splitlines() if x.startswith("model name")), "")
    return {
        "cpu": cpu.partition(":")[2].strip(),
        "cores": os.cpu_count() or 0,
        "kernel": os.uname().release,
        "python": sys.version,  # the build too: one that is not optimised is up to a fifth slower
        "nginx": _first_line("nginx", "-v"),
        "cc": _first_line("cc", "--version"),
    }


def _first_line(*command: str) -> str:
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return (found.stdout + found.stderr).partition("\n")[0]
