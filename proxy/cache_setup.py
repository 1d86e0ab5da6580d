"""Builds the cache of a configuration: its store, and for `similar` the embedder, the vector index and the verifier."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from proxy.caches.opening import MissingExtra, open_cache_store
from proxy.call import Call
from proxy.embedders.upstream import Ask, UpstreamEmbedder
from proxy.gateway import Gateway
from proxy.jsonspans import model_span
from proxy.settings import Settings
from proxy.stages.caching import Cache, Similar

_MISSING: Final = 'Routes with `cache: {similar: …}` need the extra "semantic": pip install "sluice[semantic]".'


def make_cache(settings: Settings, count: Callable[[str, str], None], gateway: Callable[[], Gateway]) -> Cache:
    """The cache that a configuration asks for. Raises MissingExtra, naming the extra to install."""
    most = settings.cache.max_size
    room = most * 3 // 4 if uses_similarity(settings) else most
    similar = _similar(settings, ask_through(gateway), max(1, most - room))
    return Cache(open_cache_store(settings.cache.store, room), count, similar)


def uses_similarity(settings: Settings) -> bool:
    """Whether any route has `cache.similar`."""
    return any(route.cache is not None and route.cache.similar for route in settings.routes)


def _similar(settings: Settings, ask: Ask, room: int) -> Similar | None:
    """The search for similar questions; None where no route asks for it."""
    if not uses_similarity(settings):
        return None
    said = settings.cache.similar
    name = said.embedder if said else "local"
    try:
        from proxy.caches.vectors import Index
        from proxy.embedders.local import MiniLM
        from proxy.embedders.worker import Worker
        from proxy.stages.similarity import Similarity, verifying
    except ImportError as missing:
        raise MissingExtra(_MISSING) from missing
    worker = Worker("similar")
    embedder = MiniLM(worker) if name == "local" else UpstreamEmbedder(name, ask)
    return Similarity(embedder, said.threshold if said else 0.95, Index(room), worker, verifying(ask))


def ask_through(gateway: Callable[[], Gateway]) -> Ask:
    """A function that asks for a whole answer through the gateway, as a client of Sluice itself."""

    async def ask(endpoint: str, fields: Mapping[str, Any]) -> bytes:
        body = orjson.dumps(fields)
        call = Call("similar", "openai", endpoint, fields["model"], body, fields, tenant="sluice", cache="off")
        call.model_at = model_span(body, fields)
        async with gateway().answer(call) as reply:
            return reply.body or b""

    return ask
