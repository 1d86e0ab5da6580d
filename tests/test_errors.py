"""Every code has its status and family, and every failure OpenAI's form."""

import re

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import errors
from proxy.errors import STATUS, SluiceError, metric_code
from proxy.sse import payload


@pytest.mark.parametrize("code", STATUS)
def test_each_code_has_a_status_and_a_type_that_say_whose_fault_it_is(code: str) -> None:
    error = SluiceError(code, "x")
    assert 400 <= error.status <= 599
    kinds = {"upstream": "upstream_error", "proxy": "proxy_error", "policy": "policy_error"}
    assert error.kind == kinds.get(code.partition("_")[0], "invalid_request_error")
    assert metric_code(error) == code


def test_the_tree_at_the_top_of_the_module_names_every_code_with_its_status() -> None:
    text = errors.__doc__ or ""
    named = dict(re.findall(r"(\w+) (\d{3})", text.partition("upstream_timeout_{")[0]))
    named |= dict(re.findall(r"((?:proxy|endpoint|cache)_\w+) (\d{3})", text))
    for code, status in STATUS.items():
        if not code.startswith("upstream_timeout_"):
            assert named[code] == str(status), code


@given(st.text(st.characters(codec="utf-8")), st.none() | st.text("ab"))
def test_the_envelope_is_openais_whatever_the_text(message: str, param: str | None) -> None:
    error = SluiceError("client_invalid_request", message, param=param)
    said = {"message": message, "type": "invalid_request_error", "param": param, "code": "client_invalid_request"}
    assert orjson.loads(error.body()) == {"error": said}
    assert orjson.loads(payload(error.event()) or b"") == {"error": said}
    assert error.event().count(b"\n") == 2


@pytest.mark.parametrize(("seconds", "line"), [(0, b"0"), (0.4, b"1"), (7.2, b"8"), (59.9, b"60"), (1e9, b"60")])
def test_retry_after_is_whole_seconds_within_a_minute(seconds: float, line: bytes) -> None:
    assert SluiceError("upstream_rate_limited", "x", retry_after=seconds).headers() == [(b"retry-after", line)]


def test_what_is_not_known_is_not_said() -> None:
    assert SluiceError("upstream_error", "x").headers() == []
    assert SluiceError("upstream_error", "x", should_retry=False).headers() == [(b"x-should-retry", b"false")]
    assert SluiceError("upstream_error", "x", should_retry=True).headers() == [(b"x-should-retry", b"true")]


def test_an_upstreams_own_code_and_status_are_kept_but_for_metrics() -> None:
    error = SluiceError("content_filter", "x", status=403, kind="odd_error")
    assert (error.status, error.kind, metric_code(error)) == (403, "odd_error", "client_invalid_request")
    assert SluiceError("content_filter", "x").status == 400
    assert str(error) == "content_filter: x"
