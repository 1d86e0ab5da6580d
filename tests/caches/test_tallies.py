"""What operators are shown of the cache's hits, of one worker and of several."""

from proxy.caches.contract import Holding
from proxy.caches.keys import tag
from proxy.caches.tallies import Tallies, merge_stats


def test_each_route_has_its_own_counts_beside_what_the_store_holds() -> None:
    tallies = Tallies()
    tallies.note("a", "miss")
    tallies.note("a", "hit")
    tallies.note("a", "similar")
    tallies.note("b", "shared")
    stats = tallies.stats(Holding(3, 900, 1000, {tag("a"): 3}))
    assert stats == {
        "entries": 3,
        "bytes": 900,
        "max_bytes": 1000,
        "hits": 2,
        "misses": 1,
        "shared": 1,
        "by_route": [
            {"route": "a", "entries": 3, "hits": 2, "misses": 1},
            {"route": "b", "entries": 0, "hits": 0, "misses": 0},
        ],
    }


def test_workers_are_summed_route_by_route_and_what_is_unknown_stays_so() -> None:
    here, there = Tallies(), Tallies()
    here.note("a", "hit")
    there.note("a", "miss")
    there.note("b", "miss")
    summed = merge_stats(here.stats(Holding(None, None, None)), there.stats(Holding(2, 10, 20, {tag("a"): 2})))
    assert (summed["entries"], summed["bytes"], summed["hits"], summed["misses"]) == (None, None, 1, 2)
    assert summed["by_route"] == [
        {"route": "a", "entries": 2, "hits": 1, "misses": 1},
        {"route": "b", "entries": 0, "hits": 0, "misses": 1},
    ]
