"""The store that config.yaml names."""

import pytest

from proxy.caches.memory import Memory
from proxy.caches.opening import open_cache_store


def test_memory_is_bounded_by_what_the_config_says() -> None:
    store = open_cache_store("memory", 4096)
    assert isinstance(store, Memory) and store.max_bytes == 4096


def test_a_redis_is_not_connected_before_it_is_needed() -> None:
    redis = pytest.importorskip("proxy.caches.redis", reason="needs the extra `redis`")
    store = open_cache_store("redis://:secret@127.0.0.1:1/0", 4096)
    assert isinstance(store, redis.RedisStore)
    assert "secret" not in repr(store)
