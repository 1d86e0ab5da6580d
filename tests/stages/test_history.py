"""The last calls can be read, newest first, and hold on to nothing of what they were made of."""

import gc
import weakref
from typing import Any

from proxy.call import Call
from proxy.errors import SluiceError
from proxy.stages.history import History
from proxy.usage import Usage


class Body(dict[str, Any]):
    """Fields that can be watched."""


def call(at: int = 0, failure: SluiceError | None = None) -> Call:
    made = Call(f"id-{at}", "openai", "chat/completions", "m", b"the prompt", {}, credential="sk-secret")
    made.trace.route, made.trace.upstream, made.trace.model, made.trace.status = "gpt-", "east", "gpt-4o", 200
    made.trace.usage, made.trace.failure, made.trace.kept = Usage(3, 5), failure, [b"the prompt", b"the answer"]
    return made


def test_the_newest_comes_first_and_the_oldest_go() -> None:
    history = History()
    for at in range(1200):
        history.note(call(at), 0.1)
    ids = [each["id"] for each in history.calls()]
    assert ids == [f"id-{at}" for at in range(1199, 699, -1)]


def test_a_call_is_told_without_its_prompt_and_key() -> None:
    history = History()
    history.note(call(failure=SluiceError("upstream_error", "x")), 0.25)
    (said,) = history.calls()
    assert (
        said | {"route": "gpt-", "upstream": "east", "model": "gpt-4o", "code": "upstream_error", "ms": 250.0} == said
    )
    assert said["tokens"] == {"input": 3, "output": 5, "cached": None}
    assert "prompt" not in str(said)
    assert history._ended[0][0].trace.kept is None  # `log.content`: that is for the log alone
    assert "sk-secret" not in str(said)


def test_what_a_call_was_made_of_is_let_go_without_the_garbage_collector() -> None:
    """A failure's traceback leads to every frame of the call, and from there back to the call."""
    history = History()

    def answered() -> weakref.ref[Body]:
        fields = Body(model="m")
        made = call()
        made.fields = fields
        try:
            raise SluiceError("upstream_error", "x")
        except SluiceError as failure:
            made.trace.failure = failure
        history.note(made, 0.1)
        return weakref.ref(fields)

    gc.disable()
    try:
        held = [answered() for _ in range(10)]
        assert [each() for each in held] == [None] * 10
    finally:
        gc.enable()
    assert [each["code"] for each in history.calls()] == ["upstream_error"] * 10


def test_the_last_minutes_are_tallied_by_upstream() -> None:
    history = History()
    for at in range(100):
        history.note(call(at, SluiceError("upstream_error", "x") if at % 4 == 0 else None), at / 1000)
    traffic = history.traffic()
    east = [point["upstreams"]["east"] for point in traffic["points"]]
    assert sum(each["calls"] for each in east) == 100
    assert sum(each["errors"] for each in east) == 25
    history.note(call(7, SluiceError("client_invalid_request", "x")), 0.1)
    points = history.traffic()["points"]
    assert sum(point["upstreams"].get("east", {"errors": 0})["errors"] for point in points) == 25  # nobody's here
    assert sum(each["tokens"] for each in east) == 800
    assert len(traffic["points"]) <= 2


def test_minutes_that_are_long_gone_are_forgotten() -> None:
    history = History()
    for step in range(500):
        history._begin_step(1e9 + step * 5)
    assert len(history.traffic()["points"]) == 120
    assert history.traffic()["points"][-1]["t"] == 1e9 + 499 * 5
