"""A real Prometheus, as Debian packages it, for tests: found on PATH, or fetched once by scripts/install-prometheus."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.running import free_port
from tests.waiting import wait_for

ROOT = Path(__file__).parents[2]
UNPACKED = ROOT / "build/prometheus/usr/bin"


def program(name: str) -> str:
    """The path of `prometheus` or `promtool`; skips the test where it cannot be had."""
    if not (UNPACKED / name).exists() and (found := shutil.which(name)):
        return found
    tried = subprocess.run([ROOT / "scripts/install-prometheus"], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"there is no {name} and it cannot be fetched: {tried.stderr.strip()[-300:]}")
    return str(UNPACKED / name)


def promtool(*arguments: str | Path) -> str:
    """What promtool says. Raises AssertionError where it finds fault."""
    tried = subprocess.run([program("promtool"), *arguments], capture_output=True, text=True)
    assert tried.returncode == 0, tried.stdout + tried.stderr
    return tried.stdout


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A running server."""

    client: httpx.Client

    def get(self, path: str, **asked: str) -> Any:
        """The data of an answer of its HTTP API."""
        answer = self.client.get(f"/api/v1/{path}", params=asked)
        assert answer.status_code == 200, f"{asked}: {answer.text}"
        return answer.json()["data"]

    def query(self, expr: str) -> list[tuple[dict[str, str], float]]:
        """Labels and value of each series of an instant query; what is no number is left out."""
        found = [(sample["metric"], float(sample["value"][1])) for sample in self.get("query", query=expr)["result"]]
        return [(labels, value) for labels, value in found if value == value]

    def scraped(self) -> None:
        """Waits until everything up to now has been scraped, and rules have seen it."""
        now = time.time()
        wait_for(lambda: any(at > now for _, at in self.query("timestamp(sluice_config_valid)")))
        scraped = time.time()
        wait_for(lambda: all(at > scraped for at in self._evaluated()))

    def _evaluated(self) -> list[float]:
        groups = self.get("rules")["groups"]
        return [datetime.fromisoformat(group["lastEvaluation"]).timestamp() for group in groups]


@contextmanager
def prometheus(config: str, folder: Path) -> Iterator[Prometheus]:
    """Runs one with this prometheus.yml; what it stores goes into the folder."""
    file = folder / "prometheus.yml"
    file.write_text(config)
    for _ in range(3):  # another program may take the port before Prometheus does
        address = f"127.0.0.1:{free_port()}"
        command = [program("prometheus"), f"--config.file={file}", f"--storage.tsdb.path={folder / 'data'}"]
        process = subprocess.Popen(
            [*command, f"--web.listen-address={address}", "--log.level=warn"], stderr=subprocess.DEVNULL
        )
        with httpx.Client(base_url=f"http://{address}", trust_env=False) as client:
            try:
                if wait_for(partial(_ready_or_gone, client, process), 20) == "ready":
                    yield Prometheus(client)
                    return
            finally:
                process.terminate()
                process.wait(20)
    raise AssertionError("prometheus does not start")


def _ready_or_gone(client: httpx.Client, process: "subprocess.Popen[bytes]") -> str:
    """What became of it so far; "": nothing yet."""
    if process.poll() is not None:
        return "gone"
    try:
        return "ready" if client.get("/-/ready").status_code == 200 else ""
    except httpx.TransportError:
        return ""
