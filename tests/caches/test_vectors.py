"""The index of questions: what is near, within a scope, and what makes room."""

import random

import pytest

np = pytest.importorskip("numpy", reason="needs the extra `semantic`")

from proxy.caches.vectors import Index  # noqa: E402


def test_the_nearest_of_the_scope_come_first() -> None:
    index = Index(1 << 20)
    index.add(b"a", [1.0, 0.0], "east", b"1")
    index.add(b"a", [3.0, 3.0], "north-east", b"2")
    index.add(b"b", [1.0, 0.0], "elsewhere", b"3")
    near = index.nearest(b"a", [2.0, 0.1], 0.5)
    assert [(one.key, one.text) for one in near] == [(b"1", "east"), (b"2", "north-east")]
    assert near[0].score == pytest.approx(0.99875, abs=1e-4)
    assert [one.key for one in index.nearest(b"a", [1.0, 0.0], 0.9)] == [b"1"]
    assert index.nearest(b"c", [1.0, 0.0], 0.0) == []


def test_a_question_with_the_same_key_takes_the_old_ones_place() -> None:
    index = Index(1 << 20)
    index.add(b"a", [1.0, 0.0], "old", b"1")
    index.add(b"b", [0.0, 1.0], "new", b"1")
    assert len(index) == 1
    assert index.nearest(b"a", [1.0, 0.0], 0.0) == []
    assert index.nearest(b"b", [0.0, 1.0], 0.9)[0].text == "new"


def test_the_oldest_make_room() -> None:
    index = Index(1 << 20, most=3)
    for number in range(5):
        index.add(b"a", [1.0, number / 10], str(number), bytes([number]))
    assert len(index) == 3
    assert {one.text for one in index.nearest(b"a", [1.0, 0.2], 0.0, most=9)} == {"2", "3", "4"}


def test_memory_bounds_it_too() -> None:
    index = Index(10 * (4 * 2 + 1024))
    for number in range(50):
        index.add(bytes([number]), [1.0, 0.0], "", bytes([number]))
    assert len(index) == 10
    tiny = Index(100)
    tiny.add(b"a", [1.0, 0.0], "", b"1")
    assert len(tiny) == 0 and tiny.nearest(b"a", [1.0, 0.0], 0.0) == []


def test_vectors_of_another_length_start_a_new_index() -> None:
    index = Index(1 << 20)
    index.add(b"a", [1.0, 0.0], "two", b"1")
    assert index.nearest(b"a", [1.0, 0.0, 0.0], 0.0) == []
    index.add(b"a", [1.0, 0.0, 0.0], "three", b"2")
    assert [one.text for one in index.nearest(b"a", [1.0, 0.0, 0.0], 0.0)] == ["three"]


@pytest.mark.parametrize("vector", [[0.0, 0.0], [float("inf"), 1.0], [float("nan"), 1.0]])
def test_what_has_no_direction_is_alike_nothing(vector: list[float]) -> None:
    index = Index(1 << 20)
    index.add(b"a", vector, "odd", b"1")
    index.add(b"a", [1.0, 0.0], "east", b"2")
    assert [one.text for one in index.nearest(b"a", [1.0, 0.0], 0.5)] == ["east"]
    assert index.nearest(b"a", vector, 0.5) == []


def test_large_scopes_and_small_ones_agree_with_brute_force() -> None:
    chance = random.Random(3)
    index = Index(64 << 20, most=2_000)
    kept: dict[bytes, tuple[bytes, list[float]]] = {}
    for number in range(3_000):
        scope = b"large" if chance.random() < 0.8 else b"small%d" % chance.randrange(5)
        vector = [chance.gauss(0, 1) for _ in range(8)]
        key = number.to_bytes(4, "big")
        index.add(scope, vector, "", key)
        kept[key] = scope, vector
    kept = dict(list(kept.items())[-2_000:])
    for scope in (b"large", b"small1"):
        asked = np.array([chance.gauss(0, 1) for _ in range(8)])
        scores = {
            key: float(np.dot(vector, asked) / np.linalg.norm(vector) / np.linalg.norm(asked))
            for key, (of, vector) in kept.items()
            if of == scope
        }
        best = sorted(scores, key=lambda key: -scores[key])[:4]
        near = index.nearest(scope, asked, 0.2)
        assert [one.key for one in near] == [key for key in best if scores[key] >= 0.2]
