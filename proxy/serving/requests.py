"""Parses the bytes of a client into requests, or into the one error that explains why they are invalid."""

import re
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol
from urllib.parse import unquote

import httptools
from starlette.types import Scope

from proxy.call import Headers
from proxy.headers import Lines
from proxy.serving.framing import check_head, check_host, check_size, head_too_large, invalid
from proxy.serving.limits import MAX_HEAD

UPGRADING: Final = frozenset({b"connection", b"upgrade", b"http2-settings"})
"""Headers that are removed when an upgrade is declined."""

_LENGTH: Final = re.compile(rb"\r\ncontent-length: *([0-9]{1,15})(?=\r\n)", re.IGNORECASE)
_LONGEST_REPEATED: Final = 8 * 1024  # longest head in bytes that is remembered


@dataclass(frozen=True, slots=True)
class Head:
    """A valid request head. `scope`: an ASGI scope to be copied; its headers lack content-length."""

    scope: Scope
    keep_alive: bool
    waits: bool  # for `100 Continue` before it sends the body


@dataclass(frozen=True, slots=True)
class Repeatable:
    """A head that a client may send again with another content-length: the bytes before and after that number."""

    before: bytes
    after: bytes  # to the end of the empty line
    head: Head
    begin: int  # where the number begins
    rest: int  # bytes from its end to the body


def repeatable(data: bytes, head: Head) -> Repeatable | None:
    """How to recognize the valid head at the start of `data` when it comes again.

    None: it is incomplete, has no content-length, or is too long.
    """
    end = data.find(b"\r\n\r\n", 0, _LONGEST_REPEATED) + 4
    length = _LENGTH.search(data, 0, end)
    if length is None or end < 4:
        return None
    begin, stop = length.span(1)
    return Repeatable(data[:begin], data[stop:end], head, begin, end - stop)


class Taker(Protocol):
    """Receives the requests."""

    def on_request(self, head: Head, size: int, body: bytes | None = None) -> None:
        """A head is complete; `size`: its content-length, 0 without one.

        `body`: the whole body, if it came with the head; then neither `on_piece` nor `on_end` follows.
        """

    def on_piece(self, piece: bytes) -> None:
        """A piece of that request's body."""

    def on_end(self) -> None:
        """The request is complete."""


class RequestReader:
    """Reads the requests of one connection, independently of how the network cuts the bytes.

    Clients repeat their head on a connection: one with the same bytes as the last, except for the content-length, is
    taken as parsed, and the parser gets nothing of that request. The taker may raise `SluiceError` from its methods:
    `feed` passes it on, and must not be called again.
    """

    def __init__(self, taker: Taker) -> None:
        self.phase: Literal["idle", "head", "body"] = "idle"
        self.headers: Headers = []  # of the head being read
        self.common: dict[str, Any] = {}  # the part of the scope that all requests of this connection share
        self._fields: dict[bytes, bytes] = {}  # the same headers by name
        self._host: bytes | None = None  # the last valid host: most connections name only one
        self._taker = taker
        self._parser: Any = self._new_parser()
        self._target = b""
        self._size = 0  # bytes received of the head, or of the body since its last content
        self._midway = False  # a request ended within this input: _size excludes the next head
        self._last: Repeatable | None = None
        self._began = b""  # the input that began with the head being read
        self._owed = 0  # bytes still missing of a body that bypasses the parser

    def feed(self, data: bytes) -> None:
        """Takes received bytes. Raises `SluiceError` once they can be no valid request."""
        while data and (self._owed or self.phase == "idle"):
            rest = self._repeated(data)
            if rest is None:
                break
            data = rest
        if data:
            self._parse(data)

    def _parse(self, data: bytes) -> None:
        self._size += len(data)
        self._midway = self._midway and self.phase == "head"
        try:
            while data:
                try:
                    self._parser.feed_data(data)
                    break
                except httptools.HttpParserUpgrade as upgrade:
                    data = self._decline_upgrade() + data[upgrade.args[0] :]
        except httptools.HttpParserCallbackError as error:
            raise error.__context__ or error from None
        except httptools.HttpParserError as error:
            raise invalid(f"The request is not valid HTTP/1.1: {error}.") from None
        if self._size > MAX_HEAD and self.phase != "idle":
            raise (
                head_too_large()
                if self.phase == "head"
                else invalid("The chunked body has too much framing without content.")
            )

    def _repeated(self, data: bytes) -> bytes | None:
        """Handles a repeated head, or the rest of its body, at the start of the data.

        Returns the data after it; None: the parser must read all of it.
        """
        taker = self._taker
        owed = self._owed
        if not owed:
            last = self._last
            if last is None or not data.startswith(last.before):
                self._began = data[:_LONGEST_REPEATED]
                return None
            begin = last.begin
            end = data.find(b"\r\n", begin, begin + 17)
            digits = data[begin:end]
            if end < 0 or not digits.isdigit() or not data.startswith(last.after, end):
                self._began = data[:_LONGEST_REPEATED]
                return None
            owed, begin = int(digits), end + last.rest
            body = data[begin : begin + owed]
            self.phase, self.headers = "head", last.head.scope["headers"]
            if len(body) == owed:
                taker.on_request(last.head, owed, body)
                self.phase, self.headers = "idle", []
                return data[begin + owed :]
            taker.on_request(last.head, owed)
            self.phase, self.headers = "body", []
            data = body
        if len(data) < owed:
            self._owed = owed - len(data)
            if data:
                taker.on_piece(data)
            return b""
        self._owed = 0
        taker.on_piece(data if len(data) == owed else data[:owed])
        self.phase = "idle"
        taker.on_end()
        return data[owed:]

    def close(self) -> None:
        """Releases the parser, which holds references to our methods."""
        self._parser = None

    # What the parser tells

    def on_message_begin(self) -> None:
        self.phase = "head"
        self._target = b""
        self.headers = []
        self._fields = {}

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        self.headers.append((name, value))
        self._fields[name] = value

    def on_headers_complete(self) -> None:
        parser = self._parser
        if parser.should_upgrade():
            return  # the head is parsed again, without the upgrade
        if self._size > MAX_HEAD or self._midway:
            check_size(self._target, self.headers)
        version = parser.get_http_version()
        fields = self._fields
        check_head(version, self._target, self.headers, fields)
        host = fields.get(b"host")
        if host is not None and host != self._host:
            check_host(host)
            self._host = host
        raw_path, _, query = self._target.partition(b"?")
        path = raw_path.decode("ascii")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": version,
            "method": parser.get_method().decode("ascii"),
            "scheme": "http",
            "path": unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": query,
            "root_path": "",
            "headers": Lines([line for line in self.headers if line[0] != b"content-length"]),
            **self.common,
        }
        waits = fields.get(b"expect", b"").lower() == b"100-continue"
        head = Head(scope, version == "1.1" and parser.should_keep_alive(), waits)
        self._last = None if waits or not head.keep_alive else repeatable(self._began, head)
        self._began = b""
        self._taker.on_request(head, int(fields.get(b"content-length", 0)))
        self.phase = "body"
        self.headers, self._fields = [], {}  # trailers go to new objects: no header is added after the checks
        self._size = 0

    def on_body(self, body: bytes) -> None:
        self._size = 0
        self._taker.on_piece(body)

    def on_message_complete(self) -> None:
        if self.phase == "body":  # else an upgrade, see `_decline_upgrade`
            self.phase = "idle"
            self._size = 0
            self._midway = True
            self._taker.on_end()

    def _decline_upgrade(self) -> bytes:
        """Feeds the same head without the upgrade, which RFC 9110 7.8 lets a server ignore, to a new parser.

        The old one now expects another protocol. Java's HTTP client and `curl --http2` ask for h2c with every first
        request, even one with a body.
        """
        method, version = self._parser.get_method(), self._parser.get_http_version()
        if method == b"CONNECT":
            raise invalid("CONNECT is not supported.")
        check_size(self._target, self.headers)
        lines = [b"%b: %b\r\n" % (name, value) for name, value in self.headers if name not in UPGRADING]
        if not self._parser.should_keep_alive():
            lines.append(b"connection: close\r\n")
        self._parser = self._new_parser()
        return b"%b %b HTTP/%b\r\n%b\r\n" % (method, self._target, version.encode(), b"".join(lines))

    def _new_parser(self) -> Any:
        parser = httptools.HttpRequestParser(self)
        # Data after a request that closes the connection is ignored; it must not cause an error within the answer.
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return parser
