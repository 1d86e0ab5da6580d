"""Finding similar questions, with vectors of the test's own making."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest

pytest.importorskip("numpy", reason="needs the extra `semantic`")

from proxy.caches.keys import Question  # noqa: E402
from proxy.caches.vectors import Index  # noqa: E402
from proxy.embedders.upstream import Ask  # noqa: E402
from proxy.embedders.worker import Worker  # noqa: E402
from proxy.errors import SluiceError  # noqa: E402
from proxy.policies.routes import CachePolicy  # noqa: E402
from proxy.stages.similarity import Similarity, verifying  # noqa: E402

PLAIN, VERIFIED = CachePolicy(similar=60), CachePolicy(similar=60, verify="judge")


@dataclass(slots=True)
class Embedder:
    """Every text points the same way, unless it is told otherwise."""

    name: str = "test"
    ways: Mapping[str, list[float]] = field(default_factory=dict)
    fails: bool = False
    asks: bool = False

    def begin(self) -> None:
        pass

    async def embed(self, text: str) -> list[float]:
        if self.fails:
            raise SluiceError("upstream_error", "no")
        return self.ways.get(text, [1.0, 0.0])


class Judge:
    """Answers as told; remembers what it was asked."""

    def __init__(self, verdict: bool | SluiceError = True) -> None:
        self.verdict = verdict
        self.asked: list[tuple[str, str, str]] = []

    async def __call__(self, model: str, one: str, other: str) -> bool:
        self.asked.append((model, one, other))
        if isinstance(self.verdict, SluiceError):
            raise self.verdict
        return self.verdict


def found(
    known: str, asked: str, policy: CachePolicy = PLAIN, judge: Judge | None = None, embedder: Embedder | None = None
) -> tuple[bytes | None, float]:
    """What is found for a question where another one is known."""

    async def scenario() -> tuple[bytes | None, float]:
        worker = Worker("test")
        similar = Similarity(embedder or Embedder(), 0.95, Index(1 << 20), worker, judge or Judge())
        await similar.note(await similar.find(Question(known, b"scope"), policy), b"key")
        assert (await similar.find(Question(known, b"other scope"), policy)).key is None
        answer = await similar.find(Question(asked, b"scope"), policy)
        similar.close()
        return answer.key, answer.score

    return asyncio.run(scenario())


def test_a_question_that_means_the_same() -> None:
    key, score = found("What is a quark?", "what's a quark")
    assert key == b"key" and score > 0.999


def test_one_that_points_elsewhere() -> None:
    ways = Embedder(ways={"what's a quark": [0.9, 0.5]})
    assert found("What is a quark?", "what's a quark", embedder=ways) == (None, 0.0)


def test_other_words_are_for_the_judge_and_grave_differences_for_nobody() -> None:
    judge = Judge()
    assert found("Write a haiku.", "Compose a haiku.")[0] is None
    assert found("Write a haiku.", "Compose a haiku.", VERIFIED, judge)[0] == b"key"
    assert judge.asked == [("judge", "Write a haiku.", "Compose a haiku.")]
    for one, other in (("Add 2 to 3", "Add 2 to 4"), ("Is it on?", "Is it not on?"), ("from A to B", "from B to A")):
        judge = Judge()
        assert found(one, other, VERIFIED, judge)[0] is None
        assert not judge.asked


@pytest.mark.parametrize("verdict", [False, SluiceError("upstream_error", "no")])
def test_a_judge_who_does_not_say_yes(verdict: bool | SluiceError) -> None:
    assert found("What is a quark?", "what's a quark", VERIFIED, Judge(verdict))[0] is None


def test_without_an_embedding_nothing_is_found_and_nothing_fails() -> None:
    assert found("What is a quark?", "What is a quark?", embedder=Embedder(fails=True)) == (None, 0.0)


async def verdict_of(ask: Ask) -> bool:
    return await verifying(ask)("judge", 'one "a"', "other")


@pytest.mark.parametrize(
    ("content", "same"),
    [("yes", True), ("Yes.", True), (" YES!\n", True), ("no", False), ("Yes and no", False), (None, False), (7, False)],
)
def test_what_counts_as_a_yes(content: Any, same: bool) -> None:
    asked: list[Mapping[str, Any]] = []

    async def ask(endpoint: str, fields: Mapping[str, Any]) -> bytes:
        asked.append(fields)
        return orjson.dumps({"choices": [{"message": {"content": content}}]})

    assert asyncio.run(verdict_of(ask)) is same
    assert asked[0]["model"] == "judge" and asked[0]["temperature"] == 0
    assert '"one \\"a\\""' in asked[0]["messages"][1]["content"]


@pytest.mark.parametrize("answer", [b"", b"{}", b'{"choices":[]}', b"[]"])
def test_rubbish_is_no_yes(answer: bytes) -> None:
    async def ask(endpoint: str, fields: Mapping[str, Any]) -> bytes:
        return answer

    assert asyncio.run(verdict_of(ask)) is False


def test_twenty_thousand_questions_are_searched_beside_the_loop() -> None:
    numpy = pytest.importorskip("numpy")

    async def scenario() -> float:
        worker, index = Worker("test"), Index(1 << 30)
        similar = Similarity(Embedder(), 0.95, index, worker, Judge())
        vectors = numpy.random.default_rng(5).standard_normal((20_000, 64), numpy.float32)
        for number, vector in enumerate(vectors):
            index.add(b"scope", vector, "", number.to_bytes(4, "big"))
        similar.embedder.ways = {"": vectors[17_777].tolist()}  # type: ignore[attr-defined]
        began = time.perf_counter()
        assert (await similar.find(Question("", b"scope"), PLAIN)).key == (17_777).to_bytes(4, "big")
        took = time.perf_counter() - began
        similar.close()
        return took

    assert asyncio.run(scenario()) < 1.0
