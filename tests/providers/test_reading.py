import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import SluiceError
from proxy.providers.reading import LineCutter, answer_object, unix_seconds


@given(st.lists(st.binary(max_size=6).filter(lambda line: b"\n" not in line)), st.integers(1, 9))
def test_lines_do_not_depend_on_how_the_network_cuts_them(lines: list[bytes], size: int) -> None:
    data = b"\n".join(lines)
    cutter = LineCutter()
    found = [line for at in range(0, len(data), size) for line in cutter.feed(data[at : at + size])]
    assert [*found, *cutter.finish()] == [line for line in lines if line and not line.isspace()]


def test_a_line_without_end_is_rubbish() -> None:
    cutter = LineCutter(limit=10)
    assert cutter.feed(b"0123456789") == []
    with pytest.raises(SluiceError, match="upstream_malformed"):
        cutter.feed(b"x")


def test_rfc_3339_dates_become_unix_seconds() -> None:
    assert unix_seconds("2026-08-04T08:52:19.385406123+02:00") == 1785826339
    assert unix_seconds("2026-01-01T00:00:00Z") == 1767225600
    assert [unix_seconds(odd) for odd in (None, 5, "", "soon")] == [None] * 4


def test_a_whole_answer_is_an_object() -> None:
    assert answer_object("X", b' \n{"a":1}\n') == {"a": 1}
    for odd in (b"", b"[]", b"<html>", b'{"a":'):
        with pytest.raises(SluiceError, match="upstream_malformed"):
            answer_object("X", odd)
