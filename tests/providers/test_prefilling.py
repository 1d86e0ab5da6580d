from dataclasses import replace
from typing import Any

import orjson
import pytest

from proxy.providers.contract import Request
from proxy.providers.registry import provider
from tests.providers.orders import ASK, Json, order, target

BEGUN: list[Json] = [*ASK, {"role": "assistant", "content": "It"}]
OPEN = {"continue_final_message": True, "add_generation_prompt": False}


def _asked(name: str, prefill: bool | frozenset[str] = True, **fields: Any) -> Request:
    made = provider(name, {"mode": "openai"} if name == "runpod" else {})
    at = replace(target(made), prefill=prefill)
    return made.request(order(made, {"messages": BEGUN, **fields}, at=at))


@pytest.mark.parametrize("name", ["mistral", "deepseek"])
def test_the_message_says_that_it_is_a_prefix(name: str) -> None:
    request = _asked(name)
    assert orjson.loads(request.body)["messages"] == [*ASK, BEGUN[1] | {"prefix": True}]
    assert request.changes == ("set prefix",)


@pytest.mark.parametrize("name", ["vllm", "runpod"])
def test_vllm_leaves_the_last_message_open(name: str) -> None:
    request = _asked(name)
    assert orjson.loads(request.body) == {"model": "m", "messages": BEGUN, **OPEN}
    assert request.changes == ("set continue_final_message", "set add_generation_prompt")


def test_runpods_queue_hands_the_same_on() -> None:
    made = provider("runpod", {"endpoint_id": "ep"})
    job = made.converse(order(made, {"messages": BEGUN}, at=replace(target(made), prefill=True)))  # type: ignore[attr-defined]
    request = next(job)
    assert isinstance(request, Request)
    assert orjson.loads(request.body)["input"]["openai_input"] == {"model": "m", "messages": BEGUN, **OPEN}
    assert request.changes == ("set continue_final_message", "set add_generation_prompt")


@pytest.mark.parametrize("name", ["mistral", "deepseek", "vllm", "runpod"])
@pytest.mark.parametrize(
    "prefill, fields",
    [
        (False, {}),
        (frozenset(("other",)), {}),
        (True, {"messages": ASK}),
        (True, {"messages": []}),
        (True, {"messages": "odd"}),
        (True, {"messages": ["odd"]}),
    ],
)
def test_any_other_body_stays_as_it_is(name: str, prefill: bool | frozenset[str], fields: Json) -> None:
    request = _asked(name, prefill, **fields)
    assert orjson.loads(request.body) == {"model": "m", "messages": BEGUN, **fields}
    assert request.changes == ()


def test_what_the_client_says_of_it_stays() -> None:
    own = {"continue_final_message": False, "add_generation_prompt": True}
    assert orjson.loads(_asked("vllm", **own).body) == {"model": "m", "messages": BEGUN, **own}
