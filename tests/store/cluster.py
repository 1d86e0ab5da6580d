"""A PostgreSQL of the tests' own, that can be stopped, frozen and started again."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.running import free_port
from tests.waiting import wait_for

PASSWORD = "hunter2-of-the-store"


def binaries() -> Path | None:
    """The folder of initdb and postgres: on PATH, or the newest of Debian's."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    return max((each.parent for each in Path("/usr/lib/postgresql").glob("*/bin/initdb")), default=None)


@dataclass(slots=True)
class Cluster:
    """One server on a free loopback port, whose superuser is `sluice`."""

    folder: Path
    bin: Path
    user: list[str]  # the beginning of a command line that gives up being root
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def url(self, database: str = "sluice", user: str = "sluice", password: str = PASSWORD) -> str:
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Returns when it takes connections."""
        command = [*self.user, str(self.bin / "postgres"), "-D", str(self.folder / "data"), "-k", str(self.folder)]
        options = ["-p", str(self.port), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "jit=off"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([*command, *options], cwd=self.folder, stdout=log, stderr=log)
        wait_for(self._ready, 60)

    def kill(self) -> None:
        """As a crash would: all its processes are gone at once."""
        if self.process is not None:
            self.signal(signal.SIGCONT)
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(30)
            self.process = None

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Takes connections as the kernel does, and answers nothing."""
        self.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.signal(signal.SIGCONT)

    def signal(self, number: signal.Signals) -> None:
        """To the server and every process that it has, each of which leads a group of its own."""
        assert self.process is not None
        root = self.process.pid
        children = Path(f"/proc/{root}/task/{root}/children")
        for pid in [root, *(int(each) for each in children.read_text().split())]:
            with suppress(ProcessLookupError):  # the server, woken first, has let go of one that was done
                os.kill(pid, number)

    def _ready(self) -> bool:
        assert self.process is not None and self.process.poll() is None, (self.folder / "log").read_text()
        command = [str(self.bin / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(command).returncode == 0


@contextmanager
def cluster(bin: Path) -> Iterator[Cluster]:
    """A running server with an empty database `sluice`, in a folder that is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="sluice-postgres-"))
    server = Cluster(folder, bin, _not_root(folder))
    try:
        (folder / "password").write_text(PASSWORD)
        login = ["-U", "sluice", "-A", "scram-sha-256", "--pwfile", str(folder / "password")]
        _done(
            [*server.user, str(bin / "initdb"), "-N", "-E", "UTF8", "--locale=C", *login, str(folder / "data")], folder
        )
        server.start()
        login = ["-h", "127.0.0.1", "-p", str(server.port), "-U", "sluice"]
        _done([str(bin / "createdb"), *login, "sluice"], folder, PGPASSWORD=PASSWORD)
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder)


def _not_root(folder: Path) -> list[str]:
    """PostgreSQL refuses to be run by root; the folder is given to whoever runs it instead."""
    if os.getuid() != 0:
        return []
    names = {each.pw_name for each in pwd.getpwall()}
    user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    os.chown(folder, user.pw_uid, user.pw_gid)
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]


def _done(command: list[str], folder: Path, **environ: str) -> None:
    run = subprocess.run(command, cwd=folder, env={**os.environ, **environ}, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
