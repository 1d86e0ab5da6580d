"""For all tests: the two upstreams that most configurations name, and as much time as hypothesis's examples may take."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.doubles.openai import OpenAIDouble

# A crowded machine can make any example late.
settings.register_profile("sluice", deadline=None)
settings.load_profile("sluice")


@pytest.fixture
def east() -> Iterator[OpenAIDouble]:
    with OpenAIDouble(key="sk-east") as double:
        yield double


@pytest.fixture
def west() -> Iterator[OpenAIDouble]:
    with OpenAIDouble(key="sk-west") as double:
        yield double
