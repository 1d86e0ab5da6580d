"""The TCP fault proxy, between httpx and the OpenAI double."""

from collections.abc import Iterator

import httpx
import pytest

from tests.doubles.faultproxy import FaultProxy, Treatment, Way
from tests.doubles.openai import OpenAIDouble
from tests.waiting import wait_for

BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}], "stream": True}


@pytest.fixture
def double() -> Iterator[OpenAIDouble]:
    with OpenAIDouble() as started:
        yield started


@pytest.fixture
def proxy(double: OpenAIDouble) -> Iterator[FaultProxy]:
    with FaultProxy(double.port) as started:
        yield started


def ask(double: OpenAIDouble, proxy: FaultProxy, timeout: float = 5) -> bytes:
    url, headers = f"{proxy.address}/v1/chat/completions", {"authorization": f"Bearer {double.key}"}
    return httpx.post(url, json=BODY, headers=headers, timeout=timeout, trust_env=False).content


def test_what_passes_is_the_same(double: OpenAIDouble, proxy: FaultProxy) -> None:
    honest = ask(double, proxy)
    proxy.script(Treatment(down=Way(slices=(1, 3, 7)), up=Way(slices=(2,), delay=0.0001)))
    assert ask(double, proxy) == honest
    assert honest.endswith(b"data: [DONE]\n\n")
    wait_for(lambda: double.open_connections == 0)
    assert proxy.links[0].passed["down"] == proxy.links[1].passed["down"] > len(honest)


@pytest.mark.parametrize(
    ("treatment", "error"),
    [
        (Treatment(down=Way(after=900)), httpx.RemoteProtocolError),
        (Treatment(down=Way(after=900, then="half")), httpx.RemoteProtocolError),
        (Treatment(down=Way(after=900, then="reset")), httpx.ReadError),
        (Treatment(down=Way(after=0, then="reset")), httpx.ReadError),
        (Treatment(up=Way(after=20, then="close")), httpx.TransportError),
        (Treatment(refuse=True), httpx.TransportError),
    ],
)
def test_cut_connections_raise_and_later_ones_work(
    double: OpenAIDouble, proxy: FaultProxy, treatment: Treatment, error: type[httpx.TransportError]
) -> None:
    proxy.script(treatment)
    with pytest.raises(error):
        ask(double, proxy)
    assert ask(double, proxy).endswith(b"data: [DONE]\n\n")


def test_a_stall_lasts_and_the_server_sees_the_client_leave(double: OpenAIDouble, proxy: FaultProxy) -> None:
    proxy.script(Treatment(up=Way(after=20, then="stall")))
    with pytest.raises(httpx.ReadTimeout):
        ask(double, proxy, timeout=0.1)
    assert double.requests == []


def test_a_server_that_is_gone(double: OpenAIDouble, proxy: FaultProxy) -> None:
    double.down()
    with pytest.raises(httpx.TransportError):
        ask(double, proxy)
