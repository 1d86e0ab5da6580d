"""Whether a caller's leaving was noticed in time, and the size of kernel buffers."""

import pytest

from proxy.selftest.episodes import CANCEL_WITHIN, cancelled_in_time, kernel_buffers
from proxy.selftest.wire import Asked


def asked(at: float, gone_at: float | None) -> Asked:
    return Asked("up", "POST", "/chat/completions", {}, at, gone_at=gone_at)


@pytest.mark.parametrize(
    ("gone_at", "verdict", "reason"),
    [
        (5.01, "pass", ""),
        (5.0 + CANCEL_WITHIN - 0.01, "pass", ""),
        (5.5, "fail", "only 500 ms after"),
        (None, "fail", "still working"),
    ],
)
def test_requests_are_cancelled_soon_after_the_client_left(gone_at: float | None, verdict: str, reason: str) -> None:
    open_one = asked(4.0, gone_at)
    judgement = cancelled_in_time([open_one], [open_one], 5.0)
    assert judgement.verdict == verdict and reason in judgement.reason


def test_no_upstream_is_asked_after_the_client_left() -> None:
    answered = asked(4.0, None)
    assert cancelled_in_time([answered], [], 5.0).verdict == "pass"
    assert "asked after the client left" in cancelled_in_time([answered, asked(5.3, None)], [], 5.0).reason


def test_kernel_buffers_are_measured() -> None:
    assert kernel_buffers() > 0
