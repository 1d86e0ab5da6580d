"""Puts the cache together as config.yaml wants it."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from proxy.caches.opening import MissingExtra, opened
from proxy.settings import Settings
from proxy.settings.schema import SimilarCache
from proxy.stages.caching import Cache, Similar

Ask = Callable[[str, Mapping[str, Any]], Awaitable[bytes]]
"""Asks the gateway for a whole answer: (endpoint, body)."""

_FOR_QUESTIONS: Final = 4  # this part of `cache.max_size` is for the vectors of questions, where a route compares them


def cache_of(settings: Settings, count: Callable[[str, str], None], ask: Ask) -> Cache:
    """The cache. `count`: told (route, result) of each call; `ask`: for embeddings and verification.

    Raises MissingExtra.
    """
    size = settings.cache.max_size
    if not _compares(settings):
        return Cache(opened(settings.cache.store, size), count)
    share = size // _FOR_QUESTIONS
    similar = _similar(settings.cache.similar or SimilarCache(), share, ask)
    return Cache(opened(settings.cache.store, size - share), count, similar)


def differ(one: Settings, other: Settings) -> bool:
    """Whether two configurations want different caches; policies of routes alone do not matter."""
    return one.cache != other.cache or _compares(one) != _compares(other)


def _compares(settings: Settings) -> bool:
    return any(route.cache and route.cache.similar for route in settings.routes)


def _similar(settings: SimilarCache, size: int, ask: Ask) -> Similar:
    try:
        from proxy.caches.vectors import Index
        from proxy.embedders.upstream import UpstreamEmbedder
        from proxy.embedders.worker import Worker
        from proxy.stages.similarity import Similarity, verifying

        worker = Worker("similar")
        if settings.embedder != "local":
            embedder = UpstreamEmbedder(settings.embedder, ask)
            return Similarity(embedder, settings.threshold, Index(size), worker, verifying(ask))
        from proxy.embedders.local import MiniLM

        return Similarity(MiniLM(worker), settings.threshold, Index(size), worker, verifying(ask))
    except ImportError as missing:
        raise MissingExtra(
            '`cache: {similar: …}` needs the extra "semantic": pip install "sluice[semantic]".'
        ) from missing
