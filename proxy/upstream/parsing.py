"""Parses HTTP/1.1 responses (RFC 9112), without I/O."""

from typing import Final

import httptools
import httpx

from proxy.call import Headers

MAX_HEAD: Final = 64 * 1024  # bytes of status line and headers, those of interim responses included
MAX_LINES: Final = 256  # header lines of one response

_BEFORE_HEADERS: Final = "peer closed connection before headers"
_IN_MID_BODY: Final = "peer closed connection in mid-body"


class ResponseParser:
    """Parses the responses of one connection one after another; `expect` begins each.

    `status` is 0 until the head is complete. `pieces` is the body so far, a list that its reader empties. After
    `complete` only `keep_alive` may still change: to False if unsolicited bytes follow.
    """

    __slots__ = (
        "status",
        "headers",
        "encoding",
        "pieces",
        "complete",
        "keep_alive",
        "on_body",
        "_http",
        "_bodiless",
        "_interim",
        "_refusal",
        "_head_left",
        "_framing",
        "_surplus",
    )

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.on_body = self.pieces.append  # no Python call per chunk
        self.expect(bodiless=False)
        self._http = httptools.HttpResponseParser(self)

    def expect(self, bodiless: bool) -> None:
        """The next bytes are a new response. `bodiless`: it answers a HEAD request."""
        self.status = 0
        self.headers: Headers = []  # lower-case names; a new list for each response
        self.encoding = b""  # content-encoding, as sent
        self.pieces.clear()
        self.complete = False
        self.keep_alive = False  # known with `complete`
        self._bodiless = bodiless
        self._interim = False
        self._refusal = ""
        self._head_left = MAX_HEAD
        self._framing = 0  # framing bytes since the last piece of body
        self._surplus = -1  # index in `pieces` where an unsolicited response begins

    def feed(self, data: bytes) -> None:
        """Takes received bytes. Raises httpx.RemoteProtocolError if they are no HTTP response."""
        if self.complete:
            self.keep_alive = False
        elif self.status == 0:
            self._feed_head(data)
        else:
            try:
                self._http.feed_data(data)
            except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
                self._stopped(error)
            if self._refusal or self._surplus >= 0:
                self._cut()
            if self.pieces or self.complete:
                self._framing = 0
            else:
                self._note_framing(len(data))

    def joined(self) -> bytes:
        """Takes what is there of the body; b"": nothing."""
        pieces = self.pieces
        if len(pieces) == 1:
            return pieces.pop()
        data = b"".join(pieces)
        pieces.clear()
        return data

    def _feed_head(self, data: bytes) -> None:
        room, self._head_left = self._head_left, self._head_left - len(data)
        try:
            self._http.feed_data(data if room >= len(data) else data[:room])
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._stopped(error)
        if self._refusal or self._surplus >= 0:
            self._cut()
        if self.status == 0:
            if room <= len(data):
                raise httpx.RemoteProtocolError("response headers are too large")
        elif room < len(data):
            self.feed(data[room:])

    def finish(self) -> None:
        """The peer sends nothing more. Raises httpx.RemoteProtocolError if that cuts off the response."""
        if self.complete:
            self.keep_alive = False
        elif self.status == 0:
            raise httpx.RemoteProtocolError(_BEFORE_HEADERS)
        elif any(name == b"content-length" or name == b"transfer-encoding" for name, _ in self.headers):
            raise httpx.RemoteProtocolError(_IN_MID_BODY)
        else:
            self.complete = True  # the end of the connection is the end of the body

    def _note_framing(self, size: int) -> None:
        self._framing += size  # chunk extensions or trailers, which httptools buffers without a limit
        if self._framing > MAX_HEAD:
            raise httpx.RemoteProtocolError("chunk framing or trailers are too large")

    def _stopped(self, error: Exception) -> None:
        """httptools has stopped parsing."""
        if not self.complete:
            raise httpx.RemoteProtocolError(self._refusal or f"malformed response: {error}") from None
        self.keep_alive = False

    def _cut(self) -> None:
        """Drops what does not belong to this response's body."""
        if self._refusal:
            self.pieces.clear()
            raise httpx.RemoteProtocolError(self._refusal)
        del self.pieces[self._surplus :]

    # Callbacks of httptools. They never raise: errors are raised once it returns.

    def on_message_begin(self) -> None:
        """The first byte of a response; if the last one is complete, of an unsolicited one."""
        if self.complete and self._surplus < 0:
            self.keep_alive = False
            self._surplus = len(self.pieces)

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header line; trailers are ignored."""
        if self.status == 0:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head is complete."""
        if self.complete:
            return
        status = self._http.get_status_code()
        if 100 <= status < 200:
            self._interim = True
            if status == 101:
                self._refusal = "the upstream switched protocols unasked"
            return
        if status < 200 or len(self.headers) > MAX_LINES:
            self._refusal = "status is out of range" if status < 200 else "too many response headers"
            return
        fields = dict(self.headers)
        self.encoding = fields.get(b"content-encoding", b"")
        if b"transfer-encoding" in fields and any(
            name == b"transfer-encoding" and value.lower() != b"chunked" for name, value in self.headers
        ):
            self._refusal = "unknown transfer-encoding"
            return
        self.status = status
        if self._bodiless:
            self.complete = True  # httptools waits for a body now, so this connection ends here
            self._surplus = 0

    def on_message_complete(self) -> None:
        """The body has ended; a response without one is complete with its head."""
        if self._interim:
            self._interim = False
            self.headers = []
        elif not self.complete and not self._refusal:
            self.complete = True
            self.keep_alive = self._http.should_keep_alive()
