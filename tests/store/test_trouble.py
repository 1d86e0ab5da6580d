"""A store in trouble under a running proxy: calls go on, what operators change is refused by a clear error, and later works."""

import os
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from time import monotonic

import httpx
import pytest

from proxy.store.sqlite import SqliteStore
from tests.doubles.openai import OpenAIDouble
from tests.running import free_port, sluice
from tests.waiting import wait_for

ROOT = Path(__file__).parent.parent.parent
CONFIG = """
store: sqlite:///kept.db
upstreams:
  east: {{provider: openai, base_url: {url}, api_key: sk-east}}
  west: {{provider: openai, base_url: {url}, api_key: sk-east}}
default_upstream: east
"""
HELLO = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}
PIRATE = {"name": "pirate", "upstream": "east", "model": "gpt-4o", "system": "Arr."}
READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
"""For `sh -c`: the folder is read-only, even for root, to the command behind it."""


@dataclass(frozen=True, slots=True)
class Operated:
    """A proxy and the operator's client."""

    http: httpx.Client
    process: subprocess.Popen[bytes] | None = None

    def goes_to(self) -> str:
        """Where a call without any upstream's name goes; it must be answered at once."""
        began = monotonic()
        answer = self.http.post("/v1/chat/completions", json=HELLO)
        assert answer.status_code == 200 and monotonic() - began < 2, answer.text
        return str(answer.headers["x-sluice-upstream"])

    def switch(self, upstream: str) -> httpx.Response:
        return self.http.put("/admin/provider-settings", json={"default_upstream": upstream})

    def personas(self) -> list[str]:
        return [each["name"] for each in self.http.get("/admin/personas").json()["data"]]

    def refuses_changes(self, why: str) -> None:
        """Every change says why it cannot be, and none half happens."""
        before, personas = self.goes_to(), self.personas()
        other = "east" if before == "west" else "west"
        changes = [self.switch(other), self.http.post("/admin/personas", json=PIRATE | {"name": "another"})]
        changes += [self.http.delete(f"/admin/personas/{name}") for name in personas]
        for answer in changes:
            error = answer.json()["error"]
            assert (answer.status_code, error["code"]) == (500, "proxy_internal")
            assert error["message"].startswith("The store could not be ") and why in error["message"], error
        assert (self.goes_to(), self.personas()) == (before, personas)
        assert self.http.get("/readyz").status_code == 200


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "home" / "config.yaml"
    path.parent.mkdir()
    with OpenAIDouble(key="sk-east") as east:
        path.write_text(CONFIG.format(url=east.url))
        yield path


@contextmanager
def served(config: Path, *before: str, most: int = resource.RLIM_INFINITY) -> Iterator[Operated]:
    """`sluice serve`, with words before its command. `most`: bytes that it may write into a file from the start."""
    port = free_port()
    command = [*before, sys.executable, "-m", "proxy", "serve", "--config", str(config), "--port", str(port)]
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    process = subprocess.Popen(command, env=environ, cwd=config.parent, stderr=subprocess.DEVNULL)
    try:
        fill(process, most)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, verify=False, timeout=20) as http:
            wait_for(lambda: answers(http), 30)
            yield Operated(http, process)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def answers(http: httpx.Client) -> bool:
    try:
        return http.get("/livez").status_code == 200
    except httpx.TransportError:
        return False


def fill(process: subprocess.Popen[bytes], most: int) -> None:
    """To this process the disk is full: no file grows beyond so many bytes."""
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))


def choose_west(config: Path) -> None:
    """What an operator has decided in an earlier life of the proxy."""
    with closing(SqliteStore(config.parent / "kept.db")) as store:
        store.write("settings", "default_upstream", "west")


def test_a_disk_that_fills_up(config: Path) -> None:
    with served(config) as proxy:
        assert proxy.process is not None
        assert proxy.switch("west").status_code == 200
        assert proxy.http.post("/admin/personas", json=PIRATE).status_code == 201
        fill(proxy.process, 1)
        proxy.refuses_changes("disk")
        assert proxy.goes_to() == "west" and proxy.personas() == ["pirate"]
        fill(proxy.process, resource.RLIM_INFINITY)
        assert proxy.switch("east").status_code == 200 and proxy.goes_to() == "east"
        assert proxy.http.delete("/admin/personas/pirate").status_code == 204
    with served(config) as again:
        assert again.goes_to() == "east" and again.personas() == []


@pytest.mark.parametrize("chosen", [False, True], ids=["and nothing kept", "and something kept"])
def test_a_start_on_a_full_disk(config: Path, chosen: bool) -> None:
    if chosen:
        choose_west(config)
    with served(config, most=1) as proxy:
        assert proxy.goes_to() == ("west" if chosen else "east"), "what can be read is in force"
        proxy.refuses_changes("")
        assert proxy.process is not None
        fill(proxy.process, resource.RLIM_INFINITY)
        assert proxy.switch("west").status_code == 200 and proxy.goes_to() == "west"


def may_mount(folder: Path) -> bool:
    command = ["unshare", "-rm", "sh", "-c", READ_ONLY, str(folder), "true"]
    return subprocess.run(command, capture_output=True).returncode == 0


@pytest.mark.parametrize("chosen", [False, True], ids=["and nothing kept", "and something kept"])
def test_a_read_only_disk(config: Path, chosen: bool) -> None:
    if not may_mount(config.parent):
        pytest.skip("needs namespaces of mounts")
    if chosen:
        choose_west(config)
    with served(config, "unshare", "-rm", "sh", "-c", READ_ONLY, str(config.parent)) as proxy:
        assert proxy.goes_to() == ("west" if chosen else "east"), "what can be read is in force"
        proxy.refuses_changes("readonly" if chosen else "unable to open")


def test_a_file_that_another_process_holds(config: Path) -> None:
    """One that was frozen in the middle of a write, say."""
    with sluice(config.read_text()) as running, running.client() as http:
        proxy, answers = Operated(http), list[httpx.Response]()
        assert proxy.switch("west").status_code == 200
        with closing(sqlite3.connect(running.path.parent / "kept.db")) as other:
            other.execute("BEGIN EXCLUSIVE")
            change = Thread(target=lambda: answers.append(proxy.switch("east")))
            change.start()
            while not answers:
                assert proxy.goes_to() == "west" or answers
            change.join()
            (answer,) = answers
            assert answer.status_code == 500 and "database is locked" in answer.json()["error"]["message"]
        assert proxy.switch("east").status_code == 200 and proxy.goes_to() == "east"
