"""For all tests: the two upstreams that most configurations name, one day, time for hypothesis's examples, SIGINT."""

import signal
from collections.abc import Iterator
from time import sleep, time

import pytest
from hypothesis import settings

from tests.doubles.openai import OpenAIDouble

# A crowded machine can make any example late.
settings.register_profile("sluice", deadline=None)
settings.load_profile("sluice")

# In the background of a shell SIGINT is ignored, and the processes that tests start and interrupt would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def east() -> Iterator[OpenAIDouble]:
    with OpenAIDouble(key="sk-east") as double:
        yield double


@pytest.fixture
def west() -> Iterator[OpenAIDouble]:
    with OpenAIDouble(key="sk-west") as double:
        yield double


@pytest.fixture
def one_day() -> None:
    """No day, UTC, ends while the test runs: where one is about to, its end is waited for."""
    if (left := 86400 - time() % 86400) < 60:
        sleep(left)
