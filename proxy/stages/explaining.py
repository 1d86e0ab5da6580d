"""What would happen to a call, by the same table and checks as for a real call; nothing is sent."""

from typing import Any

import orjson

from proxy.call import Call
from proxy.errors import SluiceError
from proxy.policies.routes import Route
from proxy.providers.contract import Target
from proxy.stages.routing import Router
from proxy.stages.screening import Screen


def explain(router: Router, screen: Screen, call: Call) -> dict[str, Any]:
    """`{route, beaten, targets: [{upstream, model, usable, reason, body, changes, limits}], cache}`.

    Raises model_not_found where no route takes the name.
    """
    choice = router.choose(call)
    route = choice.route
    return {
        "route": route.name,
        "beaten": [other.name for other in router.matching(call.model) if other is not route],
        "targets": [_target(screen, call, route, target) for target in choice.targets],
        "cache": _cache(route),
    }


def shown_whole(route: Route) -> dict[str, Any]:
    """A route with its targets as written."""
    return {
        "name": route.name,
        "match": route.match,
        "exact": route.exact,
        "written": route.written,
        "targets": [
            {"upstream": target.upstream, "model": target.model, "weight": target.weight if route.weighted else None}
            for target in route.to
        ],
        "stream_safety": route.policies.stream_safety,
        "cache": _cache(route),
    }


def _cache(route: Route) -> dict[str, float | None] | None:
    """How long the route keeps answers, in seconds; None: it does not."""
    cache = route.policies.cache
    return None if cache is None else {"exact": cache.exact or None, "similar": cache.similar or None}


def _target(screen: Screen, call: Call, route: Route, target: Target) -> dict[str, Any]:
    limits = screen.shelves[target.upstream].look_up(target.model)
    said: dict[str, Any] = {
        "upstream": target.upstream,
        "model": target.model,
        "usable": False,
        "reason": None,
        "body": None,
        "changes": [],
        "limits": None if limits is None else {"context": limits.context, "output": limits.output},
    }
    try:
        prepared = screen.prepare(call, route)
        order = prepared.order(target)
        request = target.provider.request(order)
    except SluiceError as refusal:
        return said | {"reason": refusal.message}
    try:
        body = orjson.loads(request.body)
        orjson.dumps(body)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):  # not JSON, or nested too deeply to be written again
        body = None
    return said | {"usable": True, "body": body, "changes": [*prepared.changes, *request.changes]}
