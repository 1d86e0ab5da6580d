"""Opens the cache store that config.yaml names."""

from proxy.caches.contract import Store
from proxy.caches.memory import Memory


class MissingExtra(Exception):
    """A configured feature needs packages that are not installed; the text names the extra that has them."""


def open_cache_store(address: str, max_size: int) -> Store:
    """`memory`, bounded by `max_size` bytes, or a Redis by its URL. Does not connect yet. Raises MissingExtra."""
    if address == "memory":
        return Memory(max_size)
    try:
        from proxy.caches.redis import RedisStore
    except ImportError as missing:
        raise MissingExtra('cache.store: redis://… needs the extra "redis": pip install "sluice[redis]".') from missing
    return RedisStore(address)
