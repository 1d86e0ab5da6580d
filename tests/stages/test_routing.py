"""Routing gives every name the same route as a full scan of the table, and splits targets by weight."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.call import Call
from proxy.errors import SluiceError
from proxy.policies.rewriting import RequestRules, ResponseRules
from proxy.policies.routes import Policies, Retry, Route, Timeouts
from proxy.providers.contract import Provider, Target
from proxy.stages.routing import Router, routing_mismatch, weighted_order

POLICIES = Policies(Timeouts(1, 1, 1, 1, 1), Retry(1, 0, 0, 0))


def place(upstream: str = "up", model: str = "{model}", weight: int = 1) -> Target:
    return Target(upstream, model, Provider(), "http://x", "", weight=weight)


def route(match: str, *to: Target, exact: bool = False, written: bool = True, weighted: bool = False) -> Route:
    targets = to or (place(f"of-{match}"),)
    return Route(
        match or "default", match, exact, targets, RequestRules(), ResponseRules(), POLICIES, written, weighted
    )


def router(*routes: Route, default: Route | None = None) -> Router:
    return Router(routes, lambda: default, lambda: ["gpt-4o"])


def call(model: str, session: str | None = None) -> Call:
    return Call("1", "openai", "chat/completions", model, b"", {}, session=session)


NAME = st.text("ab/{}é", max_size=6)


@given(st.sets(NAME, max_size=8), st.sets(NAME.filter(bool), max_size=4), NAME.filter(bool), st.booleans())
def test_exact_beats_the_longest_prefix_beats_the_default(
    prefixes: set[str], exacts: set[str], model: str, has_default: bool
) -> None:
    default = route("", written=False) if has_default else None
    table = router(
        *(route(match) for match in prefixes), *(route(match, exact=True) for match in exacts), default=default
    )
    matching = sorted((prefix for prefix in prefixes if model.startswith(prefix)), key=len, reverse=True)
    expected = [(name, True) for name in exacts if name == model] + [(prefix, False) for prefix in matching]
    found = table.matching(model)
    assert [(each.match, each.exact) for each in found if each is not default] == expected
    assert (default in found) is has_default
    if not found:
        with pytest.raises(SluiceError, match="model_not_found"):
            table.resolve(model)
        return
    for _ in range(2):  # looked up, then remembered
        assert table.resolve(model).route is found[0]


@given(NAME, NAME)
def test_templates_are_filled_once_whatever_the_name_holds(prefix: str, rest: str) -> None:
    if not rest:
        return
    templates = ["{model}", "{rest}", "x/{rest}:y", "{model}-{rest}-{model}", "plain", "{other}"]
    table = router(route(prefix, *(place(model=each) for each in templates)))
    model = prefix + rest
    filled = [target.model for target in table.resolve(model).targets]
    assert filled == [model, rest, f"x/{rest}:y", f"{model}-{rest}-{model}", "plain", "{other}"]


def test_the_rest_of_an_exact_name_is_the_name() -> None:
    assert router(route("house", place(model="{rest}"), exact=True)).resolve("house").targets[0].model == "house"


@pytest.mark.parametrize("written", [False, True])
def test_a_prefix_alone_names_no_model_where_all_the_model_stands_behind_it(written: bool) -> None:
    table = router(route("up/", place(model="{rest}"), written=written))
    assert table.resolve("up/x").targets[0].model == "x"
    with pytest.raises(SluiceError, match="model_not_found"):
        table.resolve("up/")


def test_a_name_that_nothing_takes_gets_suggestions() -> None:
    with pytest.raises(SluiceError) as raised:
        router(route("x")).resolve("gpt-4p")
    assert raised.value.message.endswith("Did you mean gpt-4o?")
    assert (raised.value.status, raised.value.param) == (404, "model")


def test_a_default_is_asked_for_each_time() -> None:
    now = [route("", place("east"), written=False)]
    table = Router((), lambda: now[0], list)
    assert table.resolve("m").targets[0].upstream == "east"
    now[0] = route("", place("west"), written=False)
    assert table.resolve("m").targets[0].upstream == "west"


def test_the_possible_targets_of_a_name_are_those_of_every_default() -> None:
    defaults = [route("", place(name), written=False) for name in ("east", "west")]
    table = Router([route("x")], lambda: None, list, defaults)
    assert [(target.upstream, target.model) for target in table.possible_targets("m")] == [("east", "m"), ("west", "m")]
    assert list(table.possible_targets("xm")) == list(table.targets_of("xm"))
    assert list(table.possible_targets("persona/pirate")) == []


def test_routes_that_come_and_go_while_it_runs() -> None:
    table = router(route("persona/"))
    assert not table.resolve("persona/pirate").route.exact
    table.put(route("persona/pirate", exact=True))
    assert table.resolve("persona/pirate").route.exact
    assert [route.match for route in table.exact_routes()] == ["persona/pirate"]
    table.drop("persona/pirate")
    table.drop("persona/pirate")
    assert not table.resolve("persona/pirate").route.exact


def test_names_that_clients_make_up_are_not_remembered_for_ever() -> None:
    table = router(route("x"))
    for at in range(20_000):
        table.resolve(f"x{at}")
    assert len(table._chosen) <= 4096


@pytest.mark.parametrize("weights", [(3, 1), (1, 1, 2), (9, 0, 1)])
@pytest.mark.parametrize("by_session", [True, False])
def test_weights_are_shares_of_the_first_place(weights: tuple[int, ...], by_session: bool) -> None:
    targets = [place(f"u{at}", "m", weight) for at, weight in enumerate(weights)]
    draws = 6000
    sessions = (f"s{at}" if by_session else None for at in range(draws))
    firsts = Counter(weighted_order(targets, session)[0].upstream for session in sessions)
    for at, weight in enumerate(weights):
        assert abs(firsts[f"u{at}"] / draws - weight / sum(weights)) < 0.035


@given(st.text(st.characters(codec="utf-8")))
def test_a_session_stays_where_it_is_and_moves_only_if_its_target_goes(session: str) -> None:
    targets = [place(f"u{at}", "m", 1 + at % 3) for at in range(5)]
    order = weighted_order(targets, session)
    assert order == weighted_order(list(reversed(targets)), session)
    assert sorted(target.upstream for target in order) == [target.upstream for target in targets]
    assert weighted_order([target for target in targets if target is not order[0]], session) == order[1:]


def test_only_weighted_routes_are_drawn() -> None:
    targets = [place(f"u{at}", "m") for at in range(9)]
    table = router(route("plain", *targets), route("drawn", *targets, weighted=True))
    assert list(table.choose(call("plain", "s")).targets) == targets
    chosen = [table.choose(call("drawn", f"s{at}")).targets for at in range(20)]
    orders = {tuple(target.upstream for target in targets) for targets in chosen}
    assert len(orders) > 10
    assert list(table.resolve("drawn").targets) == targets


def test_a_routing_test_says_what_is_wrong() -> None:
    table = router(route("gpt-", place("east"), place("west", "b-{rest}")))
    assert routing_mismatch(table, "gpt-4", ["east/gpt-4", "west/b-4"]) == ""
    assert routing_mismatch(table, "gpt-4", ["east/gpt-4"]) == ""
    assert "leads to east/gpt-4, west/b-4" in routing_mismatch(table, "gpt-4", ["west/b-4"])
    assert "leads to east/gpt-4, west/b-4" in routing_mismatch(table, "gpt-4", ["east/gpt-4", "west/c"])
    assert "No route matches" in routing_mismatch(table, "claude", ["east/claude"])


def test_an_unknown_persona_is_reported_as_such() -> None:
    table = Router([route("persona/pirate", exact=True)], lambda: None, lambda: ["gpt-4o", "persona/pirate"])
    with pytest.raises(SluiceError, match=r"There is no persona 'pirat'\. Did you mean pirate\?"):
        table.resolve("persona/pirat")
