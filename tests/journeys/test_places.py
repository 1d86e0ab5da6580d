"""Breakers and bounded places together, and over a reload: neither keeps an upstream away for good."""

import threading
import time
from collections.abc import Iterator

import pytest

from tests.doubles.faults import Held, Status
from tests.doubles.openai import OpenAIDouble
from tests.running import Running, sluice, wait_for

CONFIG = """
upstreams:
  east: {{provider: openai, base_url: {east}, max_in_flight: 1, max_wait: 50ms}}
defaults:
  retry: {{attempts: 1}}
  breaker: {{failures: 1, open_for: 200ms}}
"""


@pytest.fixture
def east() -> Iterator[OpenAIDouble]:
    with OpenAIDouble(key="") as double:
        double.strict = False
        yield double


@pytest.fixture
def proxy(east: OpenAIDouble) -> Iterator[Running]:
    with sluice(CONFIG.format(east=east.url)) as running:
        yield running


def status(proxy: Running, model: str) -> int:
    return proxy.chat({"model": model, "messages": [{"role": "user", "content": "hello"}]}).status_code


def test_a_probe_that_finds_no_place_makes_room_for_the_next(proxy: Running, east: OpenAIDouble) -> None:
    east.script(Status(500), Held())
    assert status(proxy, "sick") == 502  # its breaker is open now
    holder = threading.Thread(target=status, args=(proxy, "other"))
    holder.start()  # it has the only place
    wait_for(lambda: proxy.metric("sluice_in_flight", upstream="east") == 1)
    time.sleep(0.25)
    assert status(proxy, "sick") == 429  # a probe, and no place for it
    east.release()
    holder.join()
    assert status(proxy, "sick") == 200


def test_a_breaker_outlives_a_reload_that_leaves_its_upstream_as_it_is(proxy: Running, east: OpenAIDouble) -> None:
    config = CONFIG.format(east=east.url).replace("open_for: 200ms", "open_for: 1h")
    proxy.reload(config)
    east.script(Status(500))
    assert status(proxy, "sick") == 502
    proxy.reload(config + "# changed\n")
    assert (status(proxy, "sick"), proxy.metric("sluice_breaker_open", upstream="east")) == (502, 1)
    proxy.reload(config.replace("max_wait", "headers: {x-new: here}, max_wait"))
    assert (status(proxy, "sick"), proxy.metric("sluice_breaker_open", upstream="east")) == (200, 0)
