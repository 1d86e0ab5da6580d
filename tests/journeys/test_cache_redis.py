"""A cache that two proxies share through a real Redis, and calls that go on when it does not answer."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.caches.test_redis import Server, started
from tests.doubles.openai import OpenAIDouble
from tests.running import sluice
from tests.waiting import wait_for

pytest.importorskip("redis", reason="needs the extra `redis`")
pytestmark = pytest.mark.skipif(
    shutil.which("redis-server") is None, reason="needs a redis-server (Debian's package of that name)"
)

CONFIG = """
upstreams:
  east: {{provider: openai, base_url: {east}, api_key: sk-east}}
cache: {{store: "{redis}"}}
routes:
  - prefix: kept/
    to: "east/{{rest}}"
    cache: {{exact: 1h, sampled: true}}
"""
HELLO = {"model": "kept/gpt-4o", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Server]:
    with started(tmp_path) as server:
        yield server


def test_two_proxies_share_answers_and_outlive_their_redis(redis: Server) -> None:
    with OpenAIDouble(key="sk-east") as east:
        east.strict = False
        config = CONFIG.format(east=east.url, redis=redis.url)
        with sluice(config) as one, sluice(config) as other:
            wait_for(lambda: one.chat(HELLO).headers["x-sluice-cache"] == "hit")
            wait_for(lambda: other.chat(HELLO).headers["x-sluice-cache"] == "hit")
            assert other.chat(HELLO).content == one.chat(HELLO).content
            os.kill(redis.process.pid, signal.SIGSTOP)
            for _ in range(20):
                assert one.chat(HELLO).status_code == 200
            os.kill(redis.process.pid, signal.SIGCONT)
            wait_for(lambda: one.chat(HELLO).headers["x-sluice-cache"] == "hit")
            redis.process.kill()
            redis.process.wait()
            for _ in range(20):
                assert one.chat(HELLO).headers["x-sluice-cache"] == "miss"
