"""What a step costs, compared with the same step elsewhere; never against the clock on the wall."""

from collections.abc import Callable
from time import thread_time

TIMES = 1000


def cost(step: Callable[[], object]) -> float:
    """Seconds of this thread's processor that the step takes, a thousand times over."""
    began = thread_time()
    for _ in range(TIMES):
        step()
    return thread_time() - began
