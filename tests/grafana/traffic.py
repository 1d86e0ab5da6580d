"""A Sluice under traffic of every kind, its failures included, with a Prometheus that scrapes it."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from proxy.settings import ConfigError
from tests.doubles.faults import CloseOnReuse, HoldAfter, Say, Status
from tests.doubles.oddities import MalformedEvent
from tests.doubles.openai import OpenAIDouble
from tests.doubles.openrouter import OpenRouterDouble
from tests.doubles.words import Said
from tests.grafana.prometheus import ROOT, Prometheus, prometheus
from tests.running import Running, sluice
from tests.waiting import wait_for

CONFIG = """
upstreams:
  east: {{provider: openai, base_url: {east}, api_key: sk-east}}
  west: {{provider: openai, base_url: {west}, api_key: sk-west}}
  tight: {{provider: openai, base_url: {west}, api_key: sk-west, max_in_flight: 1, max_wait: 10ms}}
  openrouter: {{provider: openrouter, base_url: {openrouter}, api_key: {openrouter_key}}}
  gone:
    provider: openai
    base_url: http://127.0.0.1:1/v1
    models: [gpt-4o]
    breaker: {{failures: 1, open_for: 1h}}
default_upstream: east
defaults:
  retry: {{attempts: 2, backoff: 1ms}}
  breaker: {{failures: 1000}}
routes:
  - prefix: gpt-
    to: [east, west]
  - model: kept
    to: east/gpt-4o-mini
    cache: {{exact: 1h, sampled: true}}
"""
HELLO = {"messages": [{"role": "user", "content": "hello"}]}
USUAL = "openrouter/openai/gpt-4o"


@dataclass(slots=True)
class Traffic:
    """Calls of every kind."""

    proxy: Running
    east: OpenAIDouble
    west: OpenAIDouble
    openrouter: OpenRouterDouble
    rounds: int = 0

    def round(self) -> None:
        """Each kind once, so that a second round makes every counter grow."""
        for model in ("gpt-4o", "openrouter/openai/gpt-4o-mini"):
            for stream in (False, True):
                assert self.ask(model, stream) == 200
        self.east.script(Say(Said("Well, yes.", reasoning="hm, so it is")))
        assert self.ask("gpt-4o", True) == 200
        self.east.script(Status(500), Status(503))
        assert self.ask("gpt-4o") == 200  # by the fallback
        self.west.script(Status(401))
        assert self.ask("west/gpt-4o") == 502
        self.west.script(MalformedEvent(1))  # before any content, while each event is parsed
        assert self.ask("west/gpt-4o", True) == 200
        self.east.script(CloseOnReuse())
        assert self.ask("gpt-4o") == self.ask("gpt-4o") == 200  # the second one is sent again, on a new connection
        assert self.ask("gone/gpt-4o") in (502, 503)  # unreachable, and then the breaker
        with self.proxy.client() as client:
            assert client.post("/v1/chat/completions", json={"messages": []}).status_code == 400
        self.ask_again()
        self.leave()
        self.reload()
        self.rounds += 1

    def ask(self, model: str, stream: bool = False) -> int:
        """One call; its status."""
        return self.proxy.chat(HELLO | {"model": model, "stream": stream}).status_code

    def ask_again(self) -> None:
        """The same question twice, on a route with a cache."""
        body = {"model": "kept", "messages": [{"role": "user", "content": f"hello in round {self.rounds}"}]}
        assert [self.proxy.chat(body).headers["x-sluice-cache"] for _ in range(2)] == ["miss", "hit"]

    def leave(self) -> None:
        """A stream takes the only place of an upstream, another call is refused, and then the client leaves."""
        self.west.script(HoldAfter(3))
        left = self.proxy.metric("sluice_client_disconnects_total")
        body = HELLO | {"model": "tight/gpt-4o", "stream": True}
        with self.proxy.client() as client, client.stream("POST", "/v1/chat/completions", json=body) as answer:
            pieces = answer.iter_raw()  # held on to: when it goes, httpx lets go of the connection
            next(pieces)
            assert self.ask("tight/gpt-4o") == 429
        wait_for(lambda: self.proxy.metric("sluice_client_disconnects_total") > left)

    def reload(self) -> None:
        """A bad configuration, which is refused, and the good one again."""
        good = self.proxy.path.read_text()
        with pytest.raises(ConfigError):
            self.proxy.reload("upstreams: 7")
        self.proxy.reload(good)


@dataclass(frozen=True, slots=True)
class Observed:
    """Sluice, and the Prometheus that has seen two rounds of traffic."""

    proxy: Running
    prometheus: Prometheus


@contextmanager
def observed(folder: Path) -> Iterator[Observed]:
    """Two rounds of traffic, all scraped."""
    with ExitStack() as stack:
        east, west = OpenAIDouble(key="sk-east"), OpenAIDouble(key="sk-west")
        openrouter = OpenRouterDouble()
        for double in (east, west, openrouter):
            double.strict = False
            stack.enter_context(double)
        config = CONFIG.format(east=east.url, west=west.url, openrouter=openrouter.url, openrouter_key=openrouter.key)
        proxy = stack.enter_context(sluice(config))
        server = stack.enter_context(prometheus(scraping(proxy.url.removeprefix("http://")), folder))
        traffic = Traffic(proxy, east, west, openrouter)
        for _ in range(2):  # the first gives every series its first sample, the second makes it grow
            traffic.round()
            server.scraped()
        yield Observed(proxy, server)


def scraping(address: str) -> str:
    """grafana/prometheus/prometheus.yml with this address in place of its target, and hurried."""
    config = yaml.safe_load((ROOT / "grafana/prometheus/prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "200ms", "evaluation_interval": "200ms"}
    config["rule_files"] = [str(ROOT / "grafana/prometheus" / name) for name in config["rule_files"]]
    (job,) = config["scrape_configs"]
    job["static_configs"] = [{"targets": [address]}]
    text: str = yaml.safe_dump(config)
    return text
