"""Waiting until a condition holds, in place of sleeping for a time."""

import asyncio
import time
from collections.abc import Callable
from typing import Any


def wait_for(condition: Callable[[], Any], seconds: float = 10.0) -> Any:
    """Waits until the condition holds and returns its value. Raises AssertionError where it does not in time."""
    ends = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < ends, "the condition did not come true in time"
        time.sleep(0.005)
    return value


async def until(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    """The same on an event loop, which goes on meanwhile."""
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "the condition did not come true in time"
        await asyncio.sleep(0.002)
