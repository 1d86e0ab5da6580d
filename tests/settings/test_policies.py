"""Policies of a route over those of `defaults`."""

from proxy.settings.policies import Retry, RouteRetry, RouteTimeouts, Timeouts


def test_a_route_overrides_only_what_it_sets() -> None:
    route = RouteTimeouts.model_validate({"first_token": "10s"})
    assert route.over(Timeouts()) == Timeouts.model_validate({"first_token": "10s"})
    assert RouteTimeouts().over(Timeouts()) == Timeouts()
    assert RouteRetry.model_validate({"attempts": 1}).over(Retry()).model_dump() == {
        "attempts": 1,
        "backoff": 0.25,
        "max_backoff": 8.0,
        "budget": 0.2,
    }


def test_every_timeout_can_be_set_by_a_route() -> None:
    assert list(RouteTimeouts.model_fields) == list(Timeouts.model_fields)
    assert list(RouteRetry.model_fields) == list(Retry.model_fields)
