"""Durations, sizes and shares."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import units


@pytest.mark.parametrize(
    ("text", "seconds"), [("250ms", 0.25), ("5s", 5.0), ("10m", 600.0), ("1h", 3600.0), ("1.5s", 1.5), ("0s", 0.0)]
)
def test_durations_are_parsed_to_seconds(text: str, seconds: float) -> None:
    assert units.duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "count"), [("512B", 512), ("64KB", 65_536), ("20MB", 20_971_520), ("1GB", 1 << 30), ("1.5KB", 1536)]
)
def test_sizes_are_bytes_in_powers_of_1024(text: str, count: int) -> None:
    assert units.size(text) == count


@pytest.mark.parametrize(("text", "value"), [("20%", 0.2), ("0%", 0.0), ("100%", 1.0), ("0.5%", 0.005)])
def test_shares_are_parts_of_one(text: str, value: float) -> None:
    assert units.share(text) == value


@pytest.mark.parametrize(
    "text", ["", "5", "5 s", "-5s", "5d", "s", "1m30s", "٥s", "5s\n", "9" * 13 + "h", 5, 5.0, None]
)
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match="expected a duration such as 250ms"):
        units.duration(text)


@pytest.mark.parametrize("text", ["20mb", "20", "20 MB", "20MiB", "-1KB", 20, True])
def test_what_is_no_size(text: object) -> None:
    with pytest.raises(ValueError, match="expected a size such as 64KB"):
        units.size(text)


@pytest.mark.parametrize("text", ["20", "101%", "-1%", "%", 0.2])
def test_what_is_no_share(text: object) -> None:
    with pytest.raises(ValueError, match="expected a share such as 20%"):
        units.share(text)


@given(st.integers(0, 10**12 - 1))
def test_whole_numbers_keep_their_value(number: int) -> None:
    assert units.duration(f"{number}s") == number
    assert units.duration(f"{number}ms") == number / 1000
    assert units.size(f"{number}B") == number
    assert units.size(f"{number}GB") == number << 30


@given(st.text())
def test_any_text_is_a_value_or_refused(text: str) -> None:
    for parse, pattern in ((units.duration, units.DURATION), (units.size, units.SIZE), (units.share, units.SHARE)):
        try:
            assert parse(text) >= 0 and re.fullmatch(pattern, text)
        except ValueError as error:
            assert str(error).startswith("expected a ")


@pytest.mark.parametrize("text", ["250ms", "5s", "90s", "10m", "1h", "25h", "0ms"])
def test_durations_are_written_as_they_were(text: str) -> None:
    assert units.written_duration(units.duration(text)) == text


@pytest.mark.parametrize("text", ["0B", "5B", "64KB", "1025KB", "20MB", "3GB"])
def test_sizes_are_written_as_they_were(text: str) -> None:
    assert units.written_size(units.size(text)) == text


@pytest.mark.parametrize("text", ["0%", "0.5%", "5%", "20%", "100%"])
def test_shares_are_written_as_they_were(text: str) -> None:
    assert units.written_share(units.share(text)) == text
