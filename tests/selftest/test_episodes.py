"""Whether a caller's leaving was noticed in time, and the size of kernel buffers."""

import pytest

from proxy.selftest.episodes import LEFT, kernel_buffers, left_alone
from proxy.selftest.wire import Asked


def asked(at: float, gone_at: float | None) -> Asked:
    return Asked("up", "POST", "/chat/completions", {}, at, gone_at=gone_at)


@pytest.mark.parametrize(
    ("gone_at", "verdict", "reason"),
    [
        (5.01, "pass", ""),
        (5.0 + LEFT - 0.01, "pass", ""),
        (5.5, "fail", "only after 500 ms"),
        (None, "fail", "still works"),
    ],
)
def test_upstreams_see_a_leaving_at_once(gone_at: float | None, verdict: str, reason: str) -> None:
    open_one = asked(4.0, gone_at)
    judgement = left_alone([open_one], [open_one], 5.0)
    assert judgement.verdict == verdict and reason in judgement.reason


def test_nobody_is_asked_for_a_caller_who_has_left() -> None:
    answered = asked(4.0, None)
    assert left_alone([answered], [], 5.0).verdict == "pass"
    assert "had left" in left_alone([answered, asked(5.3, None)], [], 5.0).reason


def test_kernel_buffers_are_measured() -> None:
    assert kernel_buffers() > 0
