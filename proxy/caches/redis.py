"""Answers in a Redis that several processes and machines share (redis-py; extra `redis`)."""

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
_OPERATORS: Final = 2.0  # and an operator
_LARGEST: Final = 1 << 20  # bytes of an entry: a larger one would hardly pass within the budget
_PATIENCE: Final = 1.0  # seconds that a Redis which failed may take to answer again
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 10.0  # seconds between the attempts, doubled each time
_CONNECTIONS: Final = 8  # making one takes the loop 3 ms: calls wait for each other's instead
_PREFIX: Final = b"sluice:1:"  # the number is that of the form below
_HEAD: Final = struct.Struct("<dHH")  # kept_at, lengths of the upstream's and the model's name

log = logging.getLogger("sluice")


@dataclass(slots=True)
class RedisStore:
    """Each step is over within its budget and fails quietly; a Redis that failed once is tried again beside the calls.

    Until it answers, the first time too, it costs nothing. One that refuses a step (it is full) has what it keeps.
    """

    url: str = field(repr=False)
    budget: float = BUDGET
    clock: Callable[[], float] = time.monotonic
    shared: bool = field(default=True, init=False)
    _redis: Any = field(default=None, init=False, repr=False)
    _turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_CONNECTIONS), init=False, repr=False)
    _answers: bool = field(default=False, init=False)
    _trying: asyncio.Task[None] | None = field(default=None, init=False)
    _next: float = field(default=0.0, init=False)  # when it may be tried again
    _pause: float = field(default=_FIRST_PAUSE, init=False)
    _closed: bool = field(default=False, init=False)
    _refuses: bool = field(default=False, init=False)  # it was told of, and nothing was kept since

    async def get(self, key: bytes) -> Entry | None:
        """The entry, if it is there and Redis says so in time."""
        found: bytes | None = await self._within(self.budget, lambda redis: redis.get(_name(key)))
        return None if found is None else _unpacked(key, found)

    async def put(self, key: bytes, entry: Entry, ttl: float) -> None:
        """Keeps an entry for `ttl` seconds, if it is not too large and Redis takes it in time."""
        packed = _packed(key, entry)
        px = max(1, int(ttl * 1000))
        if len(packed) <= _LARGEST and await self._within(
            self.budget, lambda redis: redis.set(_name(key), packed, px=px)
        ):
            self._refuses = False

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
        """Closes its connections; calls that are still under way find it gone."""
        self._closed = True
        if self._trying is not None:
            self._trying.cancel()
            await asyncio.wait([self._trying])
        redis, self._redis, self._answers = self._redis, None, False
        if redis is not None:
            await redis.aclose()

    async def _within(self, seconds: float, step: Callable[[Any], Awaitable[T]]) -> T | None:
        """What a step gives, or None where it fails, takes too long, or Redis is left alone."""
        if not self._answers:
            self._look_after()
            return None
        try:
            return await _at_most(seconds, self._taken(step))
        except ResponseError as refusal:  # full, read-only, not allowed: other steps may still do
            if not self._refuses:
                log.warning("the cache's Redis refuses a command (%s)", type(refusal).__name__)
                self._refuses = True
            return None
        except (TimeoutError, OSError, RedisError) as failure:
            if self._answers:  # else it is one of several that were under way
                log.warning("the cache's Redis fails (%s); calls go on without it", type(failure).__name__)
                self._answers, self._next = False, self.clock() + _FIRST_PAUSE
            return None

    async def _taken(self, step: Callable[[Any], Awaitable[T]]) -> T:
        async with self._turns:
            return await step(self._redis)

    def _look_after(self) -> None:
        """Begins to try in the background whether Redis answers, unless it is too early, or tried already."""
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
    """What the work gives, or TimeoutError at the very time: redis-py can swallow a cancellation while it connects."""
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
    """Whose connections are made with as few questions as can be."""
    plain: dict[str, Any] = {"protocol": 2, "driver_info": None, "socket_timeout": _PATIENCE}
    return Redis.from_url(url, retry=Retry(NoBackoff(), 0), **plain)


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
