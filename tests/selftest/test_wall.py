"""The wall as a table: complete, in order, and every fault with its own number."""

from proxy.errors import STATUS
from proxy.selftest.wall import SIXTEEN, WALL


def test_the_faults_are_numbered_in_order() -> None:
    assert [fault.number for fault in WALL] == list(range(1, len(WALL) + 1))
    assert len(SIXTEEN) == 16 and WALL[:16] == SIXTEEN
    assert len({fault.title for fault in WALL}) >= len(WALL) - 1


def test_expected_codes_are_on_the_closed_list() -> None:
    passed_on = {"content_filter", "invalid_request_error"}
    for fault in WALL:
        assert fault.expects.codes - passed_on <= STATUS.keys(), fault.title


def test_titles_fit_the_card() -> None:
    assert all(len(fault.title) < 60 for fault in WALL)
