"""A real Prometheus, as Debian packages it, for tests: found on PATH, or fetched once by scripts/install-prometheus."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.running import wait_for
from tests.upstream.rawserver import free_port

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

    url: str

    def get(self, path: str, **asked: str) -> Any:
        """The data of an answer of its HTTP API."""
        answer = httpx.get(f"{self.url}/api/v1/{path}", params=asked, trust_env=False, timeout=10)
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
        wait_for(lambda: all(at > scraped for _, at in self.query("prometheus_rule_group_last_evaluation_timestamp_seconds")))


@contextmanager
def prometheus(config: str, folder: Path) -> Iterator[Prometheus]:
    """Runs one with this prometheus.yml; what it stores goes into the folder."""
    file = folder / "prometheus.yml"
    file.write_text(config)
    for _ in range(3):  # another program may take the port before Prometheus does
        address = f"127.0.0.1:{free_port()}"
        text = config.replace("PROMETHEUS", address)
        file.write_text(text)
        command = [program("prometheus"), f"--config.file={file}", f"--storage.tsdb.path={folder / 'data'}"]
        process = subprocess.Popen(
            [*command, f"--web.listen-address={address}", "--log.level=warn"], stderr=subprocess.DEVNULL
        )
        try:
            if wait_for(lambda: process.poll() is not None or _ready(address), 20) and process.poll() is None:
                yield Prometheus(f"http://{address}")
                return
        finally:
            process.terminate()
            process.wait(20)
    raise AssertionError("prometheus does not start")


def _ready(address: str) -> bool:
    try:
        return httpx.get(f"http://{address}/-/ready", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False
