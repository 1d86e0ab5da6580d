"""A client key's whole life at `sluice serve --workers 2`: made, used, limited by all workers together, kept, revoked."""

import os
import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.doubles.openai import OpenAIDouble
from tests.supervised import Supervised, supervised
from tests.waiting import wait_for

pytestmark = pytest.mark.usefixtures("one_day")  # used is counted by the month
CONFIG = """
server: {{port: 0, drain: 3s}}
access: {{keys: required, client_keys: [sk-static]}}
upstreams:
  east: {{provider: openai, base_url: {east}, api_key: sk-east, prices: {{gpt-4o: {{input: 1, output: 1}}}}}}
log: {{format: json}}
"""
HELLO = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}


class Served(Supervised):
    """Two workers, and how to call them."""

    def ask(self, method: str, path: str, content: Any = None, key: str = "") -> httpx.Response:
        """One exchange on a connection of its own, which any worker may take."""
        headers = {"authorization": f"Bearer {key}"} if key else {}
        with httpx.Client(base_url=self.url, trust_env=False, verify=False, timeout=20) as client:
            return client.request(method, path, json=content, headers=headers)

    def make(self, **fields: Any) -> str:
        """A key that every worker knows of."""
        answer = self.ask("POST", "/admin/keys", fields)
        assert answer.status_code == 201, answer.text
        key = str(answer.json()["key"])
        wait_for(lambda: self.models(key) == {200})
        return key

    def models(self, key: str) -> set[int]:
        """What both workers say to who asks for the list of models, which is no call; 0: one of them was not met."""
        with ThreadPoolExecutor(6) as pool:
            met = dict(pool.map(lambda _: self.met(key), range(12)))
        return {*met.values(), *([0] if len(met) < 2 else [])}

    def met(self, key: str) -> tuple[float, int]:
        """A worker, known by when it started, and what it says."""
        with httpx.Client(base_url=self.url, trust_env=False, verify=False, timeout=20) as client:
            started = client.get("/admin/overview").json()["started"]
            return started, client.get("/v1/models", headers={"x-api-key": key}).status_code

    def calls(self, key: str, count: int) -> Counter[int]:
        """So many at once, by status."""
        with ThreadPoolExecutor(6) as pool:
            return Counter(pool.map(lambda _: self.call(key), range(count)))

    def call(self, key: str) -> int:
        return self.ask("POST", "/v1/chat/completions", HELLO, key).status_code

    def used(self, name: str) -> dict[str, Any]:
        (found,) = [each for each in self.ask("GET", "/admin/keys").json()["data"] if each["name"] == name]
        return dict(found["used"])


@pytest.fixture
def config(tmp_path: Path, east: OpenAIDouble) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG.format(east=east.url))
    return path


@contextmanager
def served(config: Path) -> Iterator[Served]:
    with supervised(Served, config) as made:
        wait_for(lambda: answers(made), 30)
        yield made
    assert made.process.returncode == 0, "\n".join(made.lines)


def answers(made: Served) -> bool:
    """Both workers; one that is started again too."""
    try:
        return len(made.workers()) == 2 and made.models("sk-static") == {200}
    except httpx.TransportError:
        return False


def test_a_key_s_life(config: Path, east: OpenAIDouble) -> None:
    with served(config) as proxy:
        key, other = proxy.make(name="team", requests_per_minute=12), proxy.make(name="other")
        assert proxy.calls(key, 20) == {200: 12, 429: 8}, "whoever answers"
        assert len(east.calls) == 12 and proxy.calls(other, 5) == {200: 5}
        wait_for(lambda: proxy.used("other")["calls"] == 5)  # written down: a killed worker's last two seconds are lost
        os.kill(min(proxy.workers()), signal.SIGKILL)
        wait_for(lambda: answers(proxy), 30)
        assert proxy.calls(key, 4) == {429: 4}, "nor does a new worker forget"
        assert proxy.ask("PATCH", "/admin/keys/team", {"requests_per_minute": None}).status_code == 200
        wait_for(lambda: proxy.call(key) == proxy.call(key) == proxy.call(key) == 200)
        assert proxy.ask("DELETE", "/admin/keys/other").status_code == 204
        wait_for(lambda: proxy.models(other) == {401})
        assert key not in "".join(proxy.lines) and other not in "".join(proxy.lines)
    with served(config) as proxy:
        assert proxy.call(key) == 200 and proxy.models(other) == {401}
        assert proxy.ask("GET", "/admin/usage?by=key").json()["data"][0]["key"] == "other", "what it used stays known"


def test_what_calls_took_is_all_there_after_the_end(config: Path) -> None:
    with served(config) as proxy:
        key = proxy.make(name="team")
        assert proxy.calls(key, 20) == {200: 20}
    with served(config) as proxy:
        used = proxy.used("team")
        assert (used["calls"], used["failed"], used["unpriced"]) == (20, 0, 0)
        assert used["input"] + used["output"] == pytest.approx(used["cost"] * 1e6) and used["cost"] > 0


def test_a_budget_that_one_worker_spends_ends_for_both(config: Path) -> None:
    with served(config) as proxy:
        key = proxy.make(name="team", monthly_budget=0.00001)
        wait_for(lambda: proxy.calls(key, 6) == {429: 6}, 20)
    with served(config) as proxy:
        assert proxy.calls(key, 6) == {429: 6}, "and it is known from the first call on"
