"""The last calls are listed newest first, and keep no references to the objects of a call."""

import gc
import weakref
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from proxy.call import Call
from proxy.errors import SluiceError
from proxy.stages.history import History, Tally, merge_tallies
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


def test_a_call_is_listed_without_its_prompt_and_key() -> None:
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


def test_the_objects_of_a_call_are_freed_without_the_garbage_collector() -> None:
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


def test_what_other_workers_tell_stands_in_its_place() -> None:
    one, two = History(), History()
    for at in range(400):
        one.note(call(at), at / 1000)
        two.note(call(1000 + at), (400 + at) / 1000)
    told = orjson.loads(orjson.dumps(two.shared_steps())), orjson.loads(orjson.dumps(two.calls()))
    points = one.traffic([told[0]])["points"]
    assert [point["t"] for point in points] == sorted({point["t"] for point in points})
    assert sum(point["upstreams"]["east"]["calls"] for point in points) == 800
    joint = one.calls([told[1]])
    assert len(joint) == 500 and {"id-399", "id-1399"} < {each["id"] for each in joint}
    assert [each["time"] for each in joint] == sorted((each["time"] for each in joint), reverse=True)


def test_percentiles_weigh_what_each_worker_answered() -> None:
    busy = {"calls": 900, "errors": 9, "tokens": 90, "times": [10.0] * 50}
    idle = {"calls": 100, "errors": 1, "tokens": 10, "times": [500.0] * 50}
    assert merge_tallies([busy, idle]) == {"calls": 1000, "errors": 10, "tokens": 100, "ms_p50": 10.0, "ms_p95": 500.0}
    assert (
        merge_tallies([{"calls": 20, "errors": 0, "tokens": 0, "times": [float(at) for at in range(20)]}])["ms_p95"]
        == 19
    )
    assert merge_tallies([{"calls": 0, "errors": 0, "tokens": 0, "times": []}])["ms_p50"] is None


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=700))
def test_times_that_are_thinned_keep_their_percentiles(times: list[float]) -> None:
    tally = Tally()
    for each in times:
        tally.note(call().trace, each / 1000)
    thin, ordered = tally.summary(50), sorted(each / 1000 * 1000 for each in times[:500])
    assert len(thin["times"]) <= 50 and thin["calls"] == len(times)
    said = merge_tallies([thin])["ms_p50"]
    assert ordered[int(len(ordered) * 0.47)] <= said <= ordered[min(len(ordered) - 1, int(len(ordered) * 0.53))]
