"""Every exception is translated to its own error, without addresses."""

import errno

import httpx
import pytest

from proxy.errors import Again
from proxy.upstream.border import translate_error

BEFORE: list[tuple[Exception, str, int, Again]] = [
    (httpx.ConnectTimeout("10.0.0.1"), "upstream_timeout_connect", 504, "next"),
    (httpx.ConnectError("10.0.0.1"), "upstream_unreachable", 502, "same"),
    (httpx.ProxyError("10.0.0.1"), "upstream_unreachable", 502, "same"),
    (httpx.ReadError("10.0.0.1"), "upstream_unreachable", 502, "same"),
    (httpx.WriteError("10.0.0.1"), "upstream_unreachable", 502, "same"),
    (httpx.RemoteProtocolError("peer closed connection before headers"), "upstream_unreachable", 502, "same"),
    (httpx.RemoteProtocolError("Server disconnected without sending a response."), "upstream_unreachable", 502, "same"),
    (httpx.RemoteProtocolError("malformed response"), "upstream_malformed", 502, "next"),
    (httpx.DecodingError("10.0.0.1"), "upstream_malformed", 502, "next"),
    (httpx.LocalProtocolError("10.0.0.1"), "client_invalid_request", 400, "never"),
    (httpx.PoolTimeout("10.0.0.1"), "upstream_overloaded", 503, "next"),
    (httpx.ReadTimeout("10.0.0.1"), "upstream_timeout", 504, "next"),
    (httpx.UnsupportedProtocol("10.0.0.1"), "upstream_unreachable", 502, "next"),
    (httpx.InvalidURL("10.0.0.1"), "upstream_unreachable", 502, "next"),
    (ConnectionResetError("10.0.0.1"), "upstream_unreachable", 502, "same"),
]
WITHIN: list[tuple[Exception, str, Again]] = [
    (httpx.ReadError("10.0.0.1"), "upstream_truncated", "same"),
    (httpx.RemoteProtocolError("peer closed connection in mid-body"), "upstream_truncated", "same"),
    (httpx.RemoteProtocolError("malformed response: chunk size"), "upstream_malformed", "next"),
    (httpx.ReadTimeout("10.0.0.1"), "upstream_timeout_idle", "next"),
    (httpx.StreamError("10.0.0.1"), "upstream_truncated", "same"),
    (ConnectionResetError("10.0.0.1"), "upstream_truncated", "same"),
]


@pytest.mark.parametrize("error,code,status,again", BEFORE, ids=lambda value: type(value).__name__)
def test_exceptions_before_an_answer_are_translated(
    error: httpx.HTTPError, code: str, status: int, again: Again
) -> None:
    found = translate_error(error, "east", answered=False)
    assert (found.code, found.status, found.again) == (code, status, again)
    assert "10.0.0.1" not in found.message
    assert code == "client_invalid_request" or 'upstream "east"' in found.message


@pytest.mark.parametrize(
    "number,code", [(errno.EMFILE, "proxy_overloaded"), (errno.ECONNREFUSED, "upstream_unreachable")]
)
def test_what_is_our_own_fault_is_not_called_the_upstreams(number: int, code: str) -> None:
    error = httpx.ConnectError("OSError on connecting")
    error.__cause__ = OSError(number, "10.0.0.1")
    found = translate_error(error, "east", answered=False)
    assert found.code == code and "10.0.0.1" not in found.message and 'upstream "east"' in found.message


@pytest.mark.parametrize("error,code,again", WITHIN, ids=lambda value: type(value).__name__)
def test_exceptions_within_an_answer_are_translated(error: httpx.HTTPError, code: str, again: Again) -> None:
    found = translate_error(error, "east")
    assert (found.code, found.again) == (code, again)
    assert found.message.startswith('The upstream "east" ')
    assert translate_error(error, "").message.startswith("The upstream ")
