"""Translates every exception on the way to an upstream and back into a SluiceError."""

import errno
from typing import Final

import httpx

from proxy.errors import Again, SluiceError

# Messages by which httpcore and our client report a closed connection, for which httpx has no class.
_CLOSED: Final = ("closed connection", "disconnected", "ConnectionTerminated", "StreamReset", "unexpected EOF")

_OURS: Final = (errno.EMFILE, errno.ENFILE)  # this process, or its machine, is out of file descriptors

_Row = tuple[type[Exception], str, str, Again]
_BEFORE_HEADERS: Final[tuple[_Row, ...]] = (
    (httpx.ConnectTimeout, "upstream_timeout_connect", "{} accepted no connection in time.", "next"),
    (httpx.PoolTimeout, "upstream_overloaded", "All connections to {} stayed in use.", "next"),
    (httpx.TimeoutException, "upstream_timeout", "{} did not answer in time.", "next"),
    (httpx.ConnectError, "upstream_unreachable", "No connection to {} could be made.", "same"),
    (httpx.ProxyError, "upstream_unreachable", "The forward proxy could not connect to {}.", "same"),
    (httpx.NetworkError, "upstream_unreachable", "{} closed the connection before it answered.", "same"),
    (httpx.LocalProtocolError, "client_invalid_request", "A header of this call cannot be sent upstream.", "never"),
    (httpx.UnsupportedProtocol, "upstream_unreachable", "The address of {} is invalid.", "next"),
    (httpx.InvalidURL, "upstream_unreachable", "The address of {} is invalid.", "next"),
    (httpx.DecodingError, "upstream_malformed", "{} sent a compressed answer that was not requested.", "next"),
    (httpx.RemoteProtocolError, "upstream_malformed", "{} sent an answer that is not valid HTTP.", "next"),
)
_IN_MID_BODY: Final[tuple[_Row, ...]] = (
    (httpx.TimeoutException, "upstream_timeout_idle", "{} stopped sending in the middle of its answer.", "next"),
    (httpx.NetworkError, "upstream_truncated", "{} closed the connection in the middle of its answer.", "same"),
    (httpx.RemoteProtocolError, "upstream_malformed", "{} sent an answer that is not valid HTTP.", "next"),
)


def redirect_error(upstream: str) -> SluiceError:
    """The error of an answer that is a redirect: the key may only be sent to the configured address."""
    text = f'The upstream "{upstream}" answered with a redirect, which is never followed.'
    return SluiceError("upstream_error", text, again="next")


def translate_error(
    error: httpx.HTTPError | httpx.InvalidURL | OSError, upstream: str = "", *, answered: bool = True
) -> SluiceError:
    """The error as the caller is to see it, without addresses. `answered`: it occurred after the response's head."""
    name = f'the upstream "{upstream}"' if upstream else "the upstream"
    closed = isinstance(error, httpx.RemoteProtocolError) and any(said in str(error) for said in _CLOSED)
    cause: type[Exception] = httpx.ReadError if closed else type(error)
    for kind, code, message, again in _IN_MID_BODY if answered else _BEFORE_HEADERS:
        if issubclass(cause, kind):
            text = message.format(name)
            if _is_ours(error):
                text = f"The proxy has too many files open to connect to {name}."
                return SluiceError("proxy_overloaded", text, again="next", retry_after=1.0)
            return SluiceError(code, text[0].upper() + text[1:], again=again)
    if answered:
        return SluiceError("upstream_truncated", f"T{name[1:]} stopped in the middle of its answer.", again="same")
    return SluiceError("upstream_unreachable", f"T{name[1:]} could not be reached.", again="same")


def _is_ours(error: BaseException) -> bool:
    """Whether this process could not open a file or socket; httpx's transports report that as a nested cause."""
    below = error.__cause__ or error.__context__
    return below is not None and ((isinstance(below, OSError) and below.errno in _OURS) or _is_ours(below))
