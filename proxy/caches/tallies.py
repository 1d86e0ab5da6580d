"""Cache hits and misses by route, for operators."""

from dataclasses import dataclass, field
from typing import Any, Literal

from proxy.caches.contract import Holding
from proxy.caches.keys import tag

Result = Literal["hit", "similar", "shared", "miss", "off"]
"""The outcome of one cache look-up."""

Stats = dict[str, Any]
"""`{entries, bytes, max_bytes, hits, misses, shared, by_route: [{route, entries, hits, misses}]}`.

Similar hits count as hits. None stands for what the store cannot tell.
"""


@dataclass(slots=True)
class Tally:
    """The outcomes on one route."""

    hits: int = 0
    misses: int = 0
    shared: int = 0


@dataclass(slots=True)
class Tallies:
    """The outcomes on every route since this worker started."""

    _routes: dict[str, Tally] = field(default_factory=dict)

    def note(self, route: str, result: Result) -> None:
        """Counts the outcome for one call."""
        tally = self._routes.get(route)
        if tally is None:
            tally = self._routes[route] = Tally()
        if result == "miss":
            tally.misses += 1
        elif result == "shared":
            tally.shared += 1
        else:
            tally.hits += 1

    def stats(self, holding: Holding) -> Stats:
        """The counts, with the size of the store."""
        tallies = self._routes.values()
        return {
            "entries": holding.entries,
            "bytes": holding.size,
            "max_bytes": holding.max_size,
            "hits": sum(tally.hits for tally in tallies),
            "misses": sum(tally.misses for tally in tallies),
            "shared": sum(tally.shared for tally in tallies),
            "by_route": [
                {
                    "route": route,
                    "entries": holding.by_route.get(tag(route), 0),
                    "hits": tally.hits,
                    "misses": tally.misses,
                }
                for route, tally in self._routes.items()
            ],
        }


def merge_stats(one: Stats, other: Stats) -> Stats:
    """The stats of two workers combined; a value unknown to the first stays unknown."""
    sums = {key: None if one[key] is None else one[key] + (other[key] or 0) for key in one.keys() - {"by_route"}}
    routes = {each["route"]: each for each in one["by_route"]}
    for each in other["by_route"]:
        had = routes.get(each["route"])
        added = {key: had[key] + each[key] for key in ("entries", "hits", "misses")} if had else {}
        routes[each["route"]] = each | added
    return {**sums, "by_route": list(routes.values())}
