"""The limit on metric series, which is the same for every worker."""

from pathlib import Path

from proxy.instruments import Instruments, Labels
from proxy.serving.series import SeriesLimit


def models(first: int, last: int) -> list[Labels]:
    return [(f"model-{number}",) for number in range(first, last)]


def test_all_tell_the_same_series_and_never_more_than_there_is_room_for(tmp_path: Path) -> None:
    one, other = (SeriesLimit(tmp_path / "series", most=10) for _ in range(2))
    assert one.admitted("x", models(0, 4), 1) == set(models(0, 4))
    assert other.admitted("x", models(2, 6), 1) == set(models(0, 6))
    assert one.admitted("y", models(0, 9), 2) == set(models(0, 2))
    late = SeriesLimit(tmp_path / "series", most=10)
    for each in (other, late, one):
        assert each.admitted("x", models(0, 99), 1) == set(models(0, 6))
        assert each.admitted("y", models(5, 9), 2) == set(models(0, 2))


def test_a_half_written_or_broken_line_is_ignored(tmp_path: Path) -> None:
    file, limit = tmp_path / "series", SeriesLimit(tmp_path / "series")
    file.write_bytes(b'[1,"x","a"]\n[1,"x')
    assert limit.admitted("x", [], 1) == {("a",)}
    with file.open("ab") as disk:
        disk.write(b'","b"]\n[1,"x[1,"x","c"]\n')
    limit.admitted("x", [], 1)
    assert limit.admitted("x", [("d",)], 1) == {("a",), ("b",), ("d",)}


def test_where_nothing_can_be_written_all_are_others(tmp_path: Path) -> None:
    assert SeriesLimit(tmp_path / "gone" / "series").admitted("x", [("a",)], 1) == set()


def test_series_over_the_limit_count_as_other() -> None:
    made = Instruments()
    calls = made.counter("sluice_x_total", "", "route", "upstream", "model", "code")
    tries = made.counter("sluice_y_total", "", "upstream", "model")
    for model in "abc":
        calls.labels("r", "u", model, "ok").inc()
        tries.labels("u", model).inc(2)
    made.others = [{"sluice_x_total": [(("r", "u", "c", "ok"), [1.0]), (("r", "u", "d", "ok"), [1.0])]}]
    made.limit = lambda family, asked, lines: {("r", "u", "a", "ok"), ("u", "a")}
    assert {
        (sample.name, *sample.labels.values()): sample.value for each in made.collect() for sample in each.samples
    } == {
        ("sluice_x_total", "r", "u", "a", "ok"): 1,
        ("sluice_x_total", "other", "other", "other", "ok"): 4,
        ("sluice_y_total", "u", "a"): 2,
        ("sluice_y_total", "u", "other"): 4,
    }
