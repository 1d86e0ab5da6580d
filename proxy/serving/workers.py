"""Several processes behind one listening socket: started, watched, reloaded and ended by one that does nothing else."""

import fcntl
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from socket import socket
from tempfile import TemporaryDirectory, gettempdir
from typing import Final

from proxy.serving.listening import CannotListen, listen

ENVIRONMENT: Final = "SLUICE_WORKER"
"""What a worker finds in its environment: "INDEX:FD,FD:PARENT:FOLDER" (its number, listening sockets, who started it,
the shared folder)."""
TO_DRAIN: Final = signal.SIGUSR1
"""Begins a worker's end, however often it comes. A second SIGTERM would cut its calls, and where all processes are sent
one (Ctrl-C, systemd) the parent's would be the second."""
_SHORTEST: Final = 1.0  # seconds that a worker must live, else the next start waits
_LONGEST_PAUSE: Final = 30.0
_TICK: Final = 0.1
_LONGEST_TMPDIR: Final = 72  # bytes; a socket's whole path may have 107, of which a worker's own part takes up to 35

log = logging.getLogger("sluice")


@dataclass(frozen=True, slots=True)
class Place:
    """A worker's place among its siblings. `folder` holds what they share: sockets for metrics, catalogues."""

    index: int
    sockets: tuple[int, ...]
    folder: Path
    parent: int = field(default_factory=os.getpid)

    def text(self) -> str:
        """As it stands in the environment."""
        return f"{self.index}:{','.join(map(str, self.sockets))}:{self.parent}:{self.folder}"

    @property
    def leads(self) -> bool:
        """Whether this worker does what only one may do: fetch catalogues, run the embedded model."""
        return self.index == 0


def place_of(text: str | None) -> Place | None:
    """The place that the environment names; None in a process that is alone."""
    if not text:
        return None
    index, sockets, parent, folder = text.split(":", 3)
    return Place(int(index), tuple(map(int, sockets.split(","))), Path(folder), int(parent))


@contextmanager
def shared_folder() -> Iterator[Path]:
    """The folder of what workers share, short enough for sockets, and let alone by systemd-tmpfiles while it is locked.

    That would remove what was not written for ten days, such as the port that all of them know the embedded model by.
    """
    where = "/tmp" if len(os.fsencode(gettempdir())) > _LONGEST_TMPDIR else None
    with TemporaryDirectory(prefix="sluice-", dir=where) as folder:
        lock = os.open(folder, os.O_RDONLY)
        try:
            with suppress(OSError):  # not every file system has locks
                fcntl.flock(lock, fcntl.LOCK_SH)
            yield Path(folder)
        finally:
            os.close(lock)


@dataclass(slots=True)
class Worker:
    """One process, and how its starts have gone."""

    place: Place
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    pause: float = 0.0  # seconds to wait before the next start


@dataclass(slots=True)
class Supervisor:
    """Runs `count` workers with `command` until it is told to end; what dies is started again."""

    command: Sequence[str]
    count: int
    drain: float  # seconds that workers have to end by themselves
    _workers: list[Worker] = field(default_factory=list)
    _signals: list[int] = field(default_factory=list)  # that came and were not acted on yet

    def run(self, host: str, port: int) -> int:
        """The exit code: 0, or 1 where the address cannot be had."""
        try:
            sockets = listen(host, port)
        except CannotListen as error:
            print(f"sluice: {error}", file=sys.stderr)
            return 1
        with shared_folder() as folder:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
                signal.signal(number, self._note)
            fds = tuple(sock.fileno() for sock in sockets)
            self._workers = [Worker(Place(index, fds, folder)) for index in range(self.count)]
            shown = sockets[0].getsockname()
            log.info("Sluice listens on http://%s:%d with %d workers", shown[0], shown[1], self.count)
            try:
                self._supervise()
            finally:
                self._end(sockets)
        return 0

    def _note(self, number: int, frame: object) -> None:
        self._signals.append(number)

    def _supervise(self) -> None:
        while True:
            while self._signals:
                number = self._signals.pop(0)
                if number in (signal.SIGTERM, signal.SIGINT):
                    return
                if number == signal.SIGHUP:
                    self._tell(signal.SIGHUP)
            for worker in self._workers:  # after that: one that was sent the same signal may be gone by now
                self._keep_running(worker)
            time.sleep(_TICK)

    def _keep_running(self, worker: Worker) -> None:
        now = time.monotonic()
        if worker.process is not None:
            if worker.process.poll() is None or self._told_to_end():  # by the same signal it may have ended just now
                return
            lived = now - worker.started
            worker.pause = 0.0 if lived > _SHORTEST * 10 else min(_LONGEST_PAUSE, max(_SHORTEST / 4, worker.pause * 2))
            log.error("worker %d ended (%s) and is started again", worker.place.index, worker.process.returncode)
            worker.process, worker.started = None, now
        if now - worker.started < worker.pause:
            return
        worker.started = now
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})  # it would end a worker that cannot reload yet
        worker.process = subprocess.Popen(
            self.command, env={**os.environ, ENVIRONMENT: worker.place.text()}, pass_fds=worker.place.sockets
        )
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})

    def _told_to_end(self) -> bool:
        return signal.SIGTERM in self._signals or signal.SIGINT in self._signals

    def _tell(self, number: int) -> None:
        for worker in self._workers:
            if worker.process is not None and worker.process.poll() is None:
                worker.process.send_signal(number)

    def _end(self, sockets: list[socket]) -> None:
        """Ends every worker: gently; at once on a second signal, or when their time is over."""
        for sock in sockets:
            sock.close()
        time.sleep(_TICK)  # whoever signals all of us has done so by then
        self._tell(TO_DRAIN)
        ends = time.monotonic() + self.drain + 5.0
        hurried = False
        while any(worker.process is not None and worker.process.poll() is None for worker in self._workers):
            if not hurried and self._told_to_end():
                hurried = True
                self._tell(signal.SIGTERM)
            if time.monotonic() > ends:
                self._tell(signal.SIGKILL)
                break
            time.sleep(_TICK / 2)
