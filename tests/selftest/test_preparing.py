"""Routes and policies stay the user's; addresses, keys and, with --clock-scale, the timeouts are replaced."""

from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.errors import SluiceError
from proxy.planning import Plan, load_settings, plan
from proxy.selftest.preparing import KEY, Options, addressed, scaled, subject

CONFIG = """
access: {keys: required, client_keys: [sk-mine]}
upstreams:
  east:
    provider: openai
    base_url: https://east.example.com/v1
    api_key: sk-east
    proxy: http://proxy.example.com:3128
    models: [gpt-4o, gpt-4o-mini]
  router: {provider: openrouter, api_key: ""}
  pods: {provider: runpod, api_key: rp, endpoint_id: mine}
  local: {provider: llamacpp}
defaults:
  timeouts: {connect: 3s, first_token: 40s}
  retry: {backoff: 1s, max_backoff: 4s}
  breaker: {open_for: 20s}
routes:
  - prefix: solo-
    to: router
  - prefix: gpt-
    to: [east, "router/openai/{model}", pods]
    timeouts: {idle: 10s}
    hedge: {after: 2s}
    response: {model: asked}
  - model: house
    to: local
"""
Planned = Callable[[str], Plan]


@pytest.fixture
def planned(tmp_path: Path) -> Planned:
    def made(text: str) -> Plan:
        path = tmp_path / "config.yaml"
        path.write_text(text)
        return plan(load_settings(path, {}))

    return made


def test_by_default_the_route_with_the_most_targets_is_tested(planned: Planned) -> None:
    chosen = subject(planned(CONFIG), Options())
    assert (chosen.route.match, chosen.model) == ("gpt-", "gpt-4o")
    assert [target.upstream for target in chosen.targets] == ["east", "router", "pods"]
    assert chosen.terms.targets == 3 and chosen.terms.model == "gpt-4o"
    assert chosen.models_of("router") == ["openai/gpt-4o"]


def test_another_route_can_be_chosen(planned: Planned) -> None:
    chosen = subject(planned(CONFIG), Options("house", "resume"))
    assert (chosen.route.match, chosen.terms.targets, chosen.terms.policies.stream_safety) == ("house", 1, "resume")
    assert chosen.terms.model == ""
    with pytest.raises(SluiceError):
        subject(planned(CONFIG), Options("nobody"))


def test_a_config_without_routes_is_tested_by_its_upstream(planned: Planned) -> None:
    chosen = subject(planned("upstreams:\n  local: {provider: llamacpp}\n"), Options())
    assert (chosen.route.match, chosen.model) == ("local/", "local/selftest")


def test_differences_from_the_real_configuration_are_noted(planned: Planned) -> None:
    notes = "\n".join(subject(planned(CONFIG), Options()).notes())
    assert "router is off (OPENROUTER_API_KEY is not set)" in notes
    assert "pods is called by RunPod's OpenAI-compatible API" in notes and "proxy and h2 are not covered" in notes
    assert "single target" in "\n".join(subject(planned(CONFIG), Options("house")).notes())


def test_every_upstream_is_on_and_on_loopback(planned: Planned, tmp_path: Path) -> None:
    settings = planned(CONFIG).settings
    there = addressed(settings, {"east": 1001, "router": 1002, "pods": 1003, "local": 1004}, tmp_path)
    for name, port in (("east", 1001), ("router", 1002), ("pods", 1003), ("local", 1004)):
        upstream = there.upstreams[name]
        assert upstream.live and f"http://127.0.0.1:{port}" in upstream.base_url
        assert (upstream.api_key, upstream.proxy, upstream.http) == (KEY, "", "h1")
    assert there.upstreams["pods"].mode == "openai"
    assert "sk-east" not in there.secrets() and "sk-mine" not in there.secrets()
    assert there.store.endswith("selftest.db") and there.server.host == "127.0.0.1"


def test_an_upstream_that_no_target_uses_has_a_closed_port(planned: Planned, tmp_path: Path) -> None:
    there = addressed(planned(CONFIG).settings, {}, tmp_path)
    assert all(upstream.base_url.startswith("http://127.0.0.1:9") for upstream in there.upstreams.values())


def test_routes_and_policies_stay(planned: Planned, tmp_path: Path) -> None:
    settings = planned(CONFIG).settings
    there = addressed(scaled(settings, 1.0), {}, tmp_path)
    assert (there.routes, there.defaults, there.default_upstream) == (
        settings.routes,
        settings.defaults,
        settings.default_upstream,
    )


def test_timeouts_are_scaled_except_connect(planned: Planned) -> None:
    settings = scaled(planned(CONFIG).settings, 0.1)
    defaults, route = settings.defaults, settings.routes[1]
    assert defaults.timeouts.connect == 3.0 and defaults.timeouts.first_token == pytest.approx(4.0)
    assert [defaults.retry.backoff, defaults.retry.max_backoff] == pytest.approx([0.1, 0.4])
    assert defaults.breaker.open_for == pytest.approx(2.0)
    assert route.timeouts.idle == pytest.approx(1.0) and route.timeouts.first_token is None
    assert route.hedge and route.hedge.after == pytest.approx(0.2)
    assert settings.server.ping == pytest.approx(1.5)
    assert scaled(settings, 0.01).defaults.timeouts.first_token == 0.25, "no clock is so short that it tells nothing"
