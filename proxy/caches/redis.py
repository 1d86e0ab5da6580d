"""Answers in a Redis that several processes and machines share (redis-py; extra `redis`)."""

import asyncio
import logging
import struct
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from proxy.caches.contract import Entry, Holding

T = TypeVar("T")

BUDGET: Final = 0.010  # seconds that a call may wait for Redis
_OPERATORS: Final = 2.0  # and an operator
_LARGEST: Final = 1 << 20  # bytes of an entry: a larger one would hardly pass within the budget
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0  # seconds that a Redis which failed is left alone; doubled each time
_CONNECTIONS: Final = 8  # making one takes the loop 3 ms: calls wait for each other's instead
_PREFIX: Final = b"sluice:1:"  # the number is that of the form below
_HEAD: Final = struct.Struct("<dHH")  # kept_at, lengths of the upstream's and the model's name

log = logging.getLogger("sluice")


@dataclass(slots=True)
class RedisStore:
    """Each step is over within its budget and fails quietly. A Redis that failed once costs nothing for a while."""

    url: str = field(repr=False)
    budget: float = BUDGET
    clock: Callable[[], float] = time.monotonic
    _redis: Any = field(default=None, init=False, repr=False)
    _pause: float = field(default=_FIRST_PAUSE, init=False)
    _closed_until: float = field(default=0.0, init=False)

    async def get(self, key: bytes) -> Entry | None:
        """The entry, if it is there and Redis says so in time."""
        found: bytes | None = await self._within(self.budget, lambda redis: redis.get(_name(key)))
        return None if found is None else _unpacked(key, found)

    async def put(self, key: bytes, entry: Entry, ttl: float) -> None:
        """Keeps an entry for `ttl` seconds, if it is not too large and Redis takes it in time."""
        packed = _packed(key, entry)
        if len(packed) <= _LARGEST:
            await self._within(self.budget, lambda redis: redis.set(_name(key), packed, px=max(1, int(ttl * 1000))))

    async def clear(self, route: bytes | None, model: bytes | None) -> int | None:
        """Forgets the entries whose keys have these parts. None: Redis did not answer."""
        pattern = _PREFIX + _pattern(route) + _pattern(model) + b"*"

        async def cleared(redis: Any) -> int:
            return sum([await redis.unlink(name) async for name in redis.scan_iter(match=pattern, count=1000)])

        return await self._within(_OPERATORS, cleared)

    async def holding(self) -> Holding:
        """The entries by route; Redis keeps its own account of bytes (`maxmemory`)."""

        async def counted(redis: Any) -> dict[bytes, int]:
            routes: dict[bytes, int] = {}
            async for name in redis.scan_iter(match=_PREFIX + b"*", count=1000):
                route = bytes.fromhex(name[len(_PREFIX) : len(_PREFIX) + 16].decode())
                routes[route] = routes.get(route, 0) + 1
            return routes

        routes = await self._within(_OPERATORS, counted)
        return Holding(None, None, None) if routes is None else Holding(sum(routes.values()), None, None, routes)

    async def aclose(self) -> None:
        """Closes its connections."""
        redis, self._redis = self._redis, None
        if redis is not None:
            await redis.aclose()

    async def _within(self, seconds: float, step: Callable[[Any], Awaitable[T]]) -> T | None:
        """What a step gives, or None where it fails, takes too long, or Redis is left alone."""
        now = self.clock()
        if now < self._closed_until:
            return None
        if self._redis is None:
            pool = BlockingConnectionPool.from_url(
                self.url, max_connections=_CONNECTIONS, timeout=None, retry=Retry(NoBackoff(), 0)
            )
            self._redis = Redis.from_pool(pool)
        try:
            async with asyncio.timeout(seconds):
                result = await step(self._redis)
        except (TimeoutError, OSError, RedisError) as failure:
            self._failed(failure)
            return None
        if self._closed_until:
            log.info("the cache's Redis answers again")
            self._closed_until, self._pause = 0.0, _FIRST_PAUSE
        return result

    def _failed(self, failure: Exception) -> None:
        now = self.clock()
        if now < self._closed_until:
            return  # one of several that were under way
        if not self._closed_until:
            log.warning("the cache's Redis does not answer (%s); calls go on without it", type(failure).__name__)
        self._closed_until = now + self._pause
        self._pause = min(_LONGEST_PAUSE, self._pause * 2)


def _name(key: bytes) -> bytes:
    return _PREFIX + key.hex().encode()


def _pattern(part: bytes | None) -> bytes:
    return b"?" * 16 if part is None else part.hex().encode()


def _packed(key: bytes, entry: Entry) -> bytes:
    """The key (so that an answer can never be taken for another's), a head, the names, the data."""
    upstream, model = entry.upstream.encode(), entry.model.encode()
    return b"".join((key, _HEAD.pack(entry.kept_at, len(upstream), len(model)), upstream, model, entry.data))


def _unpacked(key: bytes, packed: bytes) -> Entry | None:
    if not packed.startswith(key) or len(packed) < len(key) + _HEAD.size:
        return None
    kept_at, upstream_size, model_size = _HEAD.unpack_from(packed, len(key))
    model_at = len(key) + _HEAD.size + upstream_size
    data_at = model_at + model_size
    try:
        upstream, model = packed[len(key) + _HEAD.size : model_at].decode(), packed[model_at:data_at].decode()
    except UnicodeDecodeError:
        return None
    return Entry(packed[data_at:], kept_at, upstream, model)
