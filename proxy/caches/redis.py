"""A cache store in a Redis shared by several processes and machines (redis-py; extra `redis`)."""

import asyncio
import logging
import struct
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from proxy.caches.contract import Entry, Holding

T = TypeVar("T")

BUDGET: Final = 0.010  # seconds that a call may wait for Redis
_OPERATORS: Final = 2.0  # seconds, for operators
_LARGEST: Final = 1 << 20  # bytes of an entry; larger ones would exceed the time limit
_PATIENCE: Final = 1.0  # seconds that a retry may take
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 10.0  # seconds between retries, doubled each time
_CONNECTIONS: Final = 8  # opening one blocks the loop for 3 ms, so calls share a few
_PREFIX: Final = b"sluice:1:"  # the number is the version of the format below
_HEAD: Final = struct.Struct("<dHH")  # kept_at, lengths of the upstream and model names

log = logging.getLogger("sluice")


@dataclass(slots=True)
class RedisStore:
    """Each step has a time limit and fails silently; after a failure, Redis is retried in the background.

    Until it answers again (or for the first time) calls skip it. A Redis that refuses a write (it is full) is still
    read.
    """

    url: str = field(repr=False)
    budget: float = BUDGET
    clock: Callable[[], float] = time.monotonic
    shared: bool = field(default=True, init=False)
    _redis: Any = field(default=None, init=False, repr=False)
    _turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_CONNECTIONS), init=False, repr=False)
    _answers: bool = field(default=False, init=False)
    _trying: asyncio.Task[None] | None = field(default=None, init=False)
    _next: float = field(default=0.0, init=False)  # when the next retry is due
    _pause: float = field(default=_FIRST_PAUSE, init=False)
    _closed: bool = field(default=False, init=False)
    _refuses: bool = field(default=False, init=False)  # a refusal was logged, and nothing has been stored since

    async def get(self, key: bytes) -> Entry | None:
        """The entry, if it exists and Redis answers in time."""
        found: bytes | None = await self._within(self.budget, lambda redis: redis.get(_name(key)))
        return None if found is None else _unpacked(key, found)

    async def put(self, key: bytes, entry: Entry, ttl: float) -> None:
        """Stores an entry for `ttl` seconds, if it is not too large and Redis accepts it in time."""
        packed = _packed(key, entry)
        px = max(1, int(ttl * 1000))
        if len(packed) <= _LARGEST and await self._within(
            self.budget, lambda redis: redis.set(_name(key), packed, px=px)
        ):
            self._refuses = False

    async def clear(self, route: bytes | None, model: bytes | None) -> int | None:
        """Deletes the entries whose keys have these parts. None: Redis did not answer."""
        pattern = _PREFIX + _pattern(route) + _pattern(model) + b"*"

        async def cleared(redis: Any) -> int:
            return sum([await redis.unlink(name) async for name in redis.scan_iter(match=pattern, count=1000)])

        return await self._within(_OPERATORS, cleared)

    async def holding(self) -> Holding:
        """The number of entries by route; bytes are limited by Redis itself (`maxmemory`)."""

        async def counted(redis: Any) -> dict[bytes, int]:
            routes: dict[bytes, int] = {}
            async for name in redis.scan_iter(match=_PREFIX + b"*", count=1000):
                route = bytes.fromhex(name[len(_PREFIX) : len(_PREFIX) + 16].decode())
                routes[route] = routes.get(route, 0) + 1
            return routes

        routes = await self._within(_OPERATORS, counted)
        return Holding(None, None, None) if routes is None else Holding(sum(routes.values()), None, None, routes)

    async def aclose(self) -> None:
        """Closes its connections; for calls still under way the store is empty."""
        self._closed = True
        if self._trying is not None:
            self._trying.cancel()
            await asyncio.wait([self._trying])
        redis, self._redis, self._answers = self._redis, None, False
        if redis is not None:
            await redis.aclose()

    async def _within(self, seconds: float, step: Callable[[Any], Awaitable[T]]) -> T | None:
        """The result of a step; None if it fails, takes too long, or Redis is being skipped."""
        if not self._answers:
            self._look_after()
            return None
        try:
            return await _at_most(seconds, self._taken(step))
        except ResponseError as refusal:  # full, read-only or not allowed: other steps may still work
            if not self._refuses:
                log.warning("the cache's Redis refuses a command (%s)", type(refusal).__name__)
                self._refuses = True
            return None
        except (TimeoutError, OSError, RedisError) as failure:
            if self._answers:  # else another step has reported it already
                log.warning("the cache's Redis fails (%s); calls continue without it", type(failure).__name__)
                self._answers, self._next = False, self.clock() + _FIRST_PAUSE
            return None

    async def _taken(self, step: Callable[[Any], Awaitable[T]]) -> T:
        async with self._turns:
            return await step(self._redis)

    def _look_after(self) -> None:
        """Starts retrying Redis in the background, unless it is too early or a retry is running."""
        if not self._closed and self.clock() >= self._next and (self._trying is None or self._trying.done()):
            self._trying = asyncio.create_task(self._try())

    async def _try(self) -> None:
        if self._redis is None:
            self._redis = _client(self.url)
        try:
            await _at_most(_PATIENCE, self._redis.ping())
        except (TimeoutError, OSError, RedisError) as failure:
            if self._pause == _FIRST_PAUSE:
                log.warning("the cache's Redis does not answer (%s)", type(failure).__name__)
            self._next = self.clock() + self._pause
            self._pause = min(_LONGEST_PAUSE, self._pause * 2)
        else:
            self._answers, self._pause = True, _FIRST_PAUSE
            log.info("the cache's Redis answers")


async def _at_most(seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """The result of the work, or TimeoutError on time: redis-py can swallow a cancellation while it connects."""
    task = asyncio.ensure_future(work)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody else may ask for it
    try:
        done, _ = await asyncio.wait([task], timeout=seconds)
    finally:
        task.cancel()
    if not done:
        raise TimeoutError
    return task.result()


def _client(url: str) -> Any:
    """A client whose connections need few round trips to set up."""
    plain: dict[str, Any] = {"protocol": 2, "driver_info": None, "socket_timeout": _PATIENCE}
    return Redis.from_url(url, retry=Retry(NoBackoff(), 0), **plain)


def _name(key: bytes) -> bytes:
    return _PREFIX + key.hex().encode()


def _pattern(part: bytes | None) -> bytes:
    return b"?" * 16 if part is None else part.hex().encode()


def _packed(key: bytes, entry: Entry) -> bytes:
    """The key (so that an answer is never taken for another's), a header, the names, the data."""
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
