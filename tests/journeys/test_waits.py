"""Time spent waiting for upstreams is not counted as overhead, whatever the wait was for, and is counted once."""

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.doubles.faultproxy import FaultProxy, Treatment, Way
from tests.doubles.faults import FirstTokenAfter, Held, StallAfter, Status
from tests.doubles.openai import OpenAIDouble
from tests.doubles.runpod import RunPodDouble
from tests.running import Running, sluice
from tests.waiting import wait_for

CONFIG = """
upstreams:
  east: {{provider: openai, base_url: {east}, api_key: sk-east}}
  west: {{provider: openai, base_url: {west}, api_key: sk-west}}
  tight: {{provider: openai, base_url: {west}, api_key: sk-west, max_in_flight: 1}}
defaults:
  timeouts: {{first_token: 400ms, idle: 400ms}}
  retry: {{attempts: 2, backoff: 400ms}}
routes:
  - {{model: falls-back, to: [east/gpt-4o, west/gpt-4o]}}
  - {{model: held-back, to: [east/gpt-4o, west/gpt-4o], stream_safety: whole}}
  - {{model: hedged, to: [east/gpt-4o, west/gpt-4o], hedge: {{after: 100ms, budget: 100%}}, timeouts: {{first_token: 5s}}}}
"""
HELLO = {"messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture
def proxy(east: OpenAIDouble, west: OpenAIDouble) -> Iterator[Running]:
    with sluice(CONFIG.format(east=east.url, west=west.url)) as running:
        yield running


def is_told(proxy: Running, model: str, stream: bool = True) -> None:
    """A call by this name spends little of its time in Sluice, and not more than it took with upstreams."""
    began = time.perf_counter()
    answer = proxy.chat(HELLO | {"model": model, "stream": stream})
    took = time.perf_counter() - began
    assert answer.status_code == 200
    ours, upstreams = (float(found) / 1000 for found in re.findall("dur=([0-9.]+)", answer.headers["server-timing"]))
    assert ours < upstreams < took
    wait_for(lambda: proxy.metric("sluice_overhead_seconds_count"))
    assert 0 < proxy.metric("sluice_overhead_seconds_sum") < took / 2


def test_a_target_that_falls_silent_before_its_first_token(proxy: Running, east: OpenAIDouble) -> None:
    east.script(StallAfter(0))
    is_told(proxy, "falls-back")


def test_an_answer_that_stalls_while_it_is_held_back(proxy: Running, east: OpenAIDouble) -> None:
    east.script(StallAfter(5))
    is_told(proxy, "held-back")


@pytest.mark.parametrize("stream", [False, True])
def test_two_targets_at_once(proxy: Running, east: OpenAIDouble, west: OpenAIDouble, stream: bool) -> None:
    east.script(FirstTokenAfter(5))
    west.script(FirstTokenAfter(0.5))
    is_told(proxy, "hedged", stream)


def test_the_pause_before_a_second_try(proxy: Running, east: OpenAIDouble) -> None:
    east.script(Status(503))
    is_told(proxy, "east/gpt-4o")


def test_a_place_at_an_upstream_that_has_enough_to_do(proxy: Running, west: OpenAIDouble) -> None:
    west.script(Held())
    with ThreadPoolExecutor() as pool:
        other = pool.submit(proxy.chat, HELLO | {"model": "tight/gpt-4o"})
        wait_for(lambda: west.calls)
        waits = pool.submit(is_told, proxy, "tight/gpt-4o")
        time.sleep(0.4)  # so long is the wait that is told
        west.release()
        assert other.result(10).status_code == 200
        waits.result(10)


@pytest.mark.parametrize("stream", [False, True])
def test_the_answers_to_the_polls_of_a_job_that_come_bit_by_bit(stream: bool) -> None:
    queue = "upstreams: {{rp: {{provider: runpod, base_url: '{0}/v2', endpoint_id: ep-double, api_key: {1}}}}}"
    slow = Treatment(down=Way(delay=0.02, slices=(64,)))
    with RunPodDouble() as runpod, FaultProxy(runpod.port, always=slow) as between:
        with sluice(queue.format(between.address, runpod.key)) as proxy:
            is_told(proxy, f"rp/{runpod.models[0]}", stream)
