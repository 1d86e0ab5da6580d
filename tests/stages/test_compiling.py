"""The routes and targets that are made from a configuration."""

import pytest

from proxy.settings import ConfigError
from tests.stages.planned import planned

CONFIG = """
upstreams:
  east: {provider: openai, base_url: "http://127.0.0.1:1/v1", api_key: sk-east, headers: {x-team: search},
         models: [gpt-4o, small], prefill: [small], limits: {small: {context: 100, output: 10}},
         prices: {small: {input: 1, output: 2}}}
  west: {provider: ollama, base_url: "http://127.0.0.1:2"}
  off: {provider: openrouter, api_key: "${OPENROUTER_API_KEY:-}"}
default_upstream: west
defaults: {timeouts: {idle: 7s}, retry: {attempts: 3}}
routes:
  - {prefix: gpt-, to: [east/gpt-4o, "west/b-{model}"], timeouts: {first_token: 9s}, stream_safety: whole}
  - {prefix: fast/, to: [{upstream: west, model: "l:{rest}", weight: 3}, {upstream: "off", weight: 1}], hedge: {after: 2s}}
  - {model: house, to: east/small, cache: {exact: 1h, sampled: true}}
  - {prefix: west/, to: east/gpt-4o}
personas:
  pirate: {upstream: east, model: small, system: Arr., set: {temperature: 1.5}}
"""


def test_written_routes_personas_and_one_of_each_upstreams_own() -> None:
    routes = {route.name: route for route in planned(CONFIG).router.routes}
    assert set(routes) == {"gpt-", "fast/", "house", "west/", "persona/pirate", "east/", "off/"}
    assert {name for name, route in routes.items() if not route.written} == {"east/", "off/"}  # west/ is written
    assert {name for name, route in routes.items() if route.exact} == {"house", "persona/pirate"}
    assert {name for name, route in routes.items() if route.weighted} == {"fast/"}


def test_policies_are_the_routes_over_the_defaults() -> None:
    routes = {route.name: route.policies for route in planned(CONFIG).router.routes}
    gpt, house = routes["gpt-"], routes["house"]
    assert (gpt.timeouts.first_token, gpt.timeouts.idle, gpt.retry.attempts, gpt.stream_safety) == (9, 7, 3, "whole")
    assert (house.timeouts.first_token, house.stream_safety, house.hedge) == (60, "live", None)
    assert house.cache is not None
    assert (house.cache.exact, house.cache.sampled, house.cache.tools) == (3600, True, False)
    fast = routes["fast/"].hedge
    assert fast is not None
    assert fast.after == 2


def test_a_target_holds_address_and_key_of_its_upstream() -> None:
    router = planned(CONFIG).router
    first, second = router.resolve("gpt-x").targets
    assert (first.upstream, first.model, first.key, first.base) == (
        "east",
        "gpt-4o",
        "sk-east",
        "http://127.0.0.1:1/v1",
    )
    assert (first.headers, first.prefills) == (((b"x-team", b"search"),), False)
    assert (second.upstream, second.model, second.key) == ("west", "b-gpt-x", "")
    assert "sk-east" not in repr(first)
    assert router.resolve("house").targets[0].prefills
    assert [target.weight for target in router.resolve("fast/8b").targets] == [3, 1]


def test_a_model_asked_for_by_template_is_given_its_prefill() -> None:
    assert planned(CONFIG).router.resolve("east/small").targets[0].prefills


def test_where_a_name_goes_that_nothing_takes() -> None:
    choice = planned(CONFIG).router.resolve("anything/at-all")
    assert (choice.route.name, choice.targets[0].upstream, choice.targets[0].model) == (
        "default",
        "west",
        "anything/at-all",
    )


def test_a_default_left_empty_by_a_variable_is_left_out() -> None:
    only = planned("upstreams: {east: {provider: ollama}}\ndefault_upstream: ${DEFAULT:-}")
    assert only.router.resolve("anything").targets[0].upstream == "east"


def test_an_upstream_without_its_key_is_off() -> None:
    assert "OPENROUTER_API_KEY" in planned(CONFIG).router.resolve("off/x").targets[0].off
    assert planned(CONFIG, OPENROUTER_API_KEY="sk-or").router.resolve("off/x").targets[0].off == ""


def test_what_the_config_knows_of_a_model() -> None:
    shelf = planned(CONFIG).catalog.shelves["east"]
    small, other = shelf.look_up("small"), shelf.look_up("gpt-4o")
    assert small is not None
    assert (small.context, small.output, small.prices) == (100, 10, {"input": 1.0, "output": 2.0})
    assert other is not None
    assert (other.context, other.prices) == (None, None)


@pytest.mark.parametrize(
    "route", ["{prefix: gpt-, to: nobody}", "{prefix: fast/, to: east}", "{prefix: x, to: east/not-there}"]
)
def test_a_route_that_leads_nowhere_starts_nothing(route: str) -> None:
    with pytest.raises(ConfigError):
        planned(CONFIG.replace("personas:", f"  - {route}\npersonas:"))
