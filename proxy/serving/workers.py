"""The supervisor of several worker processes behind one listening socket: starts, watches, reloads and ends them."""

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

from proxy.hosts import url_host
from proxy.serving.listening import CannotListen, listen

ENVIRONMENT: Final = "SLUICE_WORKER"
"""What a worker finds in its environment: "INDEX:FD,FD:PARENT:FOLDER" (its number, listening sockets, who started it,
the shared folder)."""
TO_DRAIN: Final = signal.SIGUSR1
"""Tells a worker to drain; repeating it changes nothing.

A second SIGTERM would cut its calls, and where all processes are signalled (Ctrl-C, systemd) the parent's would be the
second.
"""
_SHORTEST: Final = 1.0  # a worker that lived shorter (seconds) is restarted only after a pause
_LONGEST_PAUSE: Final = 30.0
_TICK: Final = 0.1
_LONGEST_TMPDIR: Final = 72  # bytes; a socket's whole path may have 107, of which a worker's own part takes up to 35

log = logging.getLogger("sluice")


@dataclass(frozen=True, slots=True)
class Place:
    """A worker's position among its siblings. `folder` holds what they share: sockets for metrics, catalogues."""

    index: int
    sockets: tuple[int, ...]
    folder: Path
    parent: int = field(default_factory=os.getpid)

    def text(self) -> str:
        """Its form in the environment variable."""
        return f"{self.index}:{','.join(map(str, self.sockets))}:{self.parent}:{self.folder}"

    @property
    def leads(self) -> bool:
        """Whether this worker does what only one may do.

        It fetches catalogues, runs embedded models, prunes the ledger and counts reloads.
        """
        return self.index == 0


def place_of(text: str | None) -> Place | None:
    """The place given in the environment; None in a process without siblings."""
    if not text:
        return None
    index, sockets, parent, folder = text.split(":", 3)
    return Place(int(index), tuple(map(int, sockets.split(","))), Path(folder), int(parent))


@contextmanager
def shared_folder() -> Iterator[Path]:
    """A new folder shared by workers: its path short enough for sockets, and locked against systemd-tmpfiles.

    That would delete files unchanged for ten days, such as the agreed port of the embedded model.
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
    """One worker process, and its restarts."""

    place: Place
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    pause: float = 0.0  # seconds to wait before the next start


@dataclass(slots=True)
class Supervisor:
    """Runs `count` workers with `command` until told to end; a worker that dies is restarted."""

    command: Sequence[str]
    count: int
    drain: float  # seconds for workers to end by themselves
    _workers: list[Worker] = field(default_factory=list)
    _signals: list[int] = field(default_factory=list)  # received and not handled yet

    def run(self, host: str, port: int) -> int:
        """The exit code: 0, or 1 if the address is not available."""
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
            host, port = sockets[0].getsockname()[:2]
            log.info("Sluice listens on http://%s:%d with %d workers", url_host(host), port, self.count)
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
            for worker in self._workers:  # only now: a worker that got the same signal may have ended
                self._keep_running(worker)
            time.sleep(_TICK)

    def _keep_running(self, worker: Worker) -> None:
        now = time.monotonic()
        if worker.process is not None:
            if worker.process.poll() is None or self._told_to_end():  # the same signal may have ended it
                return
            lived = now - worker.started
            worker.pause = 0.0 if lived > _SHORTEST * 10 else min(_LONGEST_PAUSE, max(_SHORTEST / 4, worker.pause * 2))
            log.error("worker %d ended (%s) and is restarted", worker.place.index, worker.process.returncode)
            worker.process, worker.started = None, now
        if now - worker.started < worker.pause:
            return
        worker.started = now
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})  # SIGHUP would end a worker that is still starting
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
        """Ends every worker: gracefully; at once on a second signal, or when the drain time is over."""
        for sock in sockets:
            sock.close()
        time.sleep(_TICK)  # by then a sender that signals all processes has done so
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
