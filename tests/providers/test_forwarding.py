from dataclasses import replace

from proxy.providers.forwarding import forward
from proxy.providers.ollama import Ollama
from tests.providers.orders import order, target


def test_the_provider_s_lines_win_over_the_config_s_and_those_over_the_client_s() -> None:
    at = replace(target(Ollama()), headers=((b"x-team", b"config"), (b"authorization", b"Bearer config")))
    client = [
        (b"x-team", b"client"),
        (b"x-trace", b"1"),
        (b"x-trace", b"2"),
        (b"x-stainless-lang", b"python"),
        (b"openai-project", b"p"),
        (b"api-key", b"stray"),
        (b"x-odd-1", b"a"),
    ]
    own = [(b"authorization", b"Bearer own")]
    assert forward(order(Ollama(), {}, at=at, headers=client), own, without=(b"x-odd-",)) == [
        (b"authorization", b"Bearer own"),
        (b"x-team", b"config"),
        (b"x-trace", b"1"),
        (b"x-trace", b"2"),
    ]
