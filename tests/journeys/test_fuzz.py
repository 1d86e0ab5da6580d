"""Thousands of bad requests: each is answered 4xx in OpenAI's form, and none of them shakes the proxy."""

import os
import random
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

import orjson
import pytest

from proxy.serving.limits import Limits
from tests.doubles.anthropic import AnthropicDouble
from tests.doubles.faults import Status
from tests.doubles.ollama import OllamaDouble
from tests.doubles.openai import OpenAIDouble
from tests.running import Running, sluice

# SLUICE_FUZZ=20000 for a longer run; SLUICE_FUZZ_SEED repeats one that failed.
COUNT: Final = int(os.environ.get("SLUICE_FUZZ", "2000"))
SEED: Final = int(os.environ.get("SLUICE_FUZZ_SEED", "0")) or time.time_ns() % 2**32
CONFIG = """
access: {{admin_token: the-admin-token}}
upstreams:
  east: {{provider: openai, base_url: {east}, api_key: sk-east, limits: {{small: {{context: 100}}}}}}
  claude: {{provider: anthropic, base_url: {claude}, api_key: sk-east}}
  ollama: {{provider: ollama, base_url: {ollama}}}
  closed: {{provider: openai, base_url: {east}, api_key: sk-east, models: [one]}}
  off: {{provider: openrouter}}
routes:
  - prefix: ruled-
    to: east
    request:
      default: {{temperature: 1}}
      set: {{a.b.0.c: 1}}
      rename: {{max_tokens: max_completion_tokens}}
      remove: [metadata.x, tools.0]
      system: {{append: Be kind.}}
vapi: {{secret: vapi-secret}}
default_upstream: east
"""
CHAT = {
    "model": "gpt-4o",
    "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": [{"type": "text", "text": "t"}]}],
    "stream": False,
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
    "max_tokens": 7,
    "metadata": {"x": "y"},
}
MODELS = (
    "gpt-4o",
    "small",
    "claude/claude-x",
    "ollama/x",
    "closed/two",
    "off/x",
    "ruled-x",
    "east/",
    "east//",
    "persona/x",
)
PATHS = (
    "/v1/chat/completions", "/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/rerank",
    "/v1/moderations", "/v1/images/generations", "/v1/audio/speech", "/chat", "/vapi/chat/completions",
    "/vapi/webhook", "/admin/explain", "/admin/personas", "/admin/login", "/admin/provider-settings",
)  # fmt: skip
HARMLESS = ("/vapi/webhook", "/admin/explain")  # where a mutated body may still be a good one
VALUES: tuple[bytes, ...] = (
    b"null", b"true", b"0", b"-1", b"1e999", b"-0", b"NaN", b"Infinity", b"123456789012345678901234567890", b'""',
    b'"x"', b'"\\ud800"', b'"\\u0000"', b'"\xff"', b"[]", b"{}", b"[[]]", b"[null]", b'{"a":1}',
    b"[" * 300 + b"]" * 300, b'{"a":' * 1100 + b"1" + b"}" * 1100, b'"' + b"m" * 5000 + b'"',
    b'"gpt-4o\\n\\r\\u001b[2J"', b"1.5", b"[1", b"tru",
)  # fmt: skip
HEADERS: tuple[bytes, ...] = (
    b"content-type: text/plain", b"content-type:", b"content-type: multipart/form-data; boundary=x",
    b"x-sluice-cache: maybe", b"x-sluice-timeout: soon", b"x-sluice-timeout: 0s",
    b"x-sluice-timeout: 99999999999999999999h", b"host: a", b"host:", b"content-length: 3", b"content-length: +3",
    b"content-length: -3", b"content-length: x", b"transfer-encoding: xchunked",
    b"transfer-encoding: chunked, identity", b"transfer-encoding : chunked", b"x\x00y: z", b"x: a\x00b", b": empty",
    b"no colon", b" folded: x", b"x: \xff\xfe", b"x" * 500 + b": y", b"x: " + b"y" * 70_000, b"expect: 200-maybe",
    b"authorization: Bearer a", b"connection: close, content-type", b"upgrade: h2c", b"origin: http://evil.example",
    b"x-request-id: \x1b[2J", b"content-encoding: gzip", b"range: bytes=0-", b"cookie: sluice_admin=1.2",
    b"x-forwarded-for: 127.0.0.1", b"te: trailers", b"cdn-loop: a, b", b"accept-encoding: bomb", b"\xc3\xa4: x",
    b"x-api-key: \xff", b"authorization: Digest x",
)  # fmt: skip
TARGETS: tuple[bytes, ...] = (
    b"/", b"*", b"/v1", b"//", b"/v1/", b"/v2/chat/completions", b"/v1%2fchat%2fcompletions",
    b"/v1/chat/completions%00", b"/v1/../admin", b"/admin", b"/admin/personas/%2e%2e", b"/admin/personas/x",
    b"/v1/models/%ff", b"/v1/models/a%2Fb", b"/v1/models/" + b"x" * 3000, b"/v1/models?upstream=nobody",
    b"/v1/models?upstream=%ff&upstream=", b"http://evil/v1/models", b"http://", b"/\xff", b"/v1/chat/completions#x",
    b"/" + b"v1/" * 5000, b"/x" * 9000, b"x", b"/v1/chat/completions?" + b"a=b&" * 99, b"/chat/completions" * 600,
    b"/metrics/", b"/ui/../../etc/passwd", b"/admin/static/..%2f..%2fsettings.py", b"/%", b"/%zz",
)  # fmt: skip
METHODS: tuple[bytes, ...] = (
    b"GET",
    b"PUT",
    b"DELETE",
    b"PATCH",
    b"TRACE",
    b"CONNECT",
    b"post",
    b"X" * 40,
    b"P\x00ST",
    b"PROPFIND",
    b"",
)
LINES: tuple[bytes, ...] = (
    b"HTTP/1.0",
    b"HTTP/1.2",
    b"HTTP/2.0",
    b"HTTP/9.9",
    b"HTTP/x",
    b"HTTPS/1.1",
    b"",
    b"http/1.1",
    b"HTTP/1.1 x",
)


@dataclass(slots=True)
class Request:
    """A request as it goes over the wire, made worse step by step."""

    method: bytes = b"POST"
    target: bytes = b"/v1/chat/completions"
    version: bytes = b"HTTP/1.1"
    headers: list[bytes] = field(default_factory=list)
    body: bytes = b""
    may_pass: bool = False  # it can be a good request by chance

    def wire(self) -> bytes:
        lines = [b" ".join((self.method, self.target, self.version)), *self.headers]
        return b"\r\n".join(lines) + b"\r\n\r\n" + self.body


def good(dice: random.Random) -> Request:
    path = dice.choice(PATHS)
    body = orjson.dumps(
        CHAT | {"model": dice.choice(MODELS), "stream": dice.random() < 0.3, "input": "x", "prompt": "x"}
    )
    request = Request(target=path.encode(), body=body, may_pass=path in HARMLESS)
    request.headers = [b"host: 127.0.0.1", b"content-type: application/json"]
    if path.startswith("/vapi"):
        request.headers.append(b"x-vapi-secret: vapi-secret")
    if path.startswith("/admin"):
        request.headers.append(b"authorization: Bearer the-admin-token")
    return request


def another_value(dice: random.Random, request: Request) -> None:
    """Some member has a value of another kind, or is there twice, or is spelled in other letters."""
    name = dice.choice([*CHAT, "input", "prompt"]).encode()
    spelled = dice.choice([name, name, name, name.title(), b"mod\\u0065l", b"", b"\\ud800"])
    member = b'"%s":%s,' % (spelled, dice.choice(VALUES))
    request.body = request.body.replace(b"{", b"{" + member, 1)
    if dice.random() < 0.5:
        request.body = request.body.replace(b'"%s":' % name, b'"%s":%s,"_":' % (name, dice.choice(VALUES)))


def other_bytes(dice: random.Random, request: Request) -> None:
    """Bytes are lost, doubled or changed."""
    body = bytearray(request.body)
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(len(body) or 1)
        body[at : at + dice.choice([0, 1, 1, 5])] = dice.choice(
            [b"", b'"', b"{", b"]", b"\\", b"\x00", b"\xff", b",", dice.randbytes(3)]
        )
    request.body = bytes(body)


def another_body(dice: random.Random, request: Request) -> None:
    """Something else altogether."""
    body = request.body
    choices = (
        b"",
        b" ",
        b"[]",
        b"7",
        b"null",
        b'"x"',
        body[: len(body) // 2],
        body + body,
        b"\xef\xbb\xbf" + body,
        body.decode("latin-1").encode("utf-16"),
    )
    request.body = dice.choice([*choices, dice.randbytes(200), *VALUES])


def other_headers(dice: random.Random, request: Request) -> None:
    for _ in range(dice.choice([1, 1, 2, 150])):
        request.headers.insert(dice.randrange(len(request.headers) + 1), dice.choice(HEADERS))
    if dice.random() < 0.2:
        request.headers.pop(dice.randrange(len(request.headers)))
    if dice.random() < 0.2:
        request.headers = [line for line in request.headers if not line.startswith(b"content-type: application")]


def another_target(dice: random.Random, request: Request) -> None:
    request.target, request.may_pass = dice.choice(TARGETS), True
    request.method = dice.choice([b"GET", b"POST", b"OPTIONS", b"HEAD", *METHODS])


def another_line(dice: random.Random, request: Request) -> None:
    request.may_pass = True
    if dice.random() < 0.5:
        request.method = dice.choice(METHODS)
    else:
        request.version = dice.choice(LINES)


WORSE: tuple[Callable[[random.Random, Request], None], ...] = (
    another_value, another_value, other_bytes, another_body, other_headers, another_target, another_line,
)  # fmt: skip


def framed(dice: random.Random, request: Request) -> None:
    """Says how long the body is, one way or the other; seldom wrongly."""
    if dice.random() < 0.2:
        size = dice.choice([b"%x", b"%X;ext=1", b"0%x"]) % len(request.body)
        end = dice.choice([b"0\r\n\r\n"] * 30 + [b"", b"x\r\n\r\n", b"0\r\nlate: x\r\n\r\n"])
        request.body = (size + b"\r\n" + request.body + b"\r\n" if request.body else b"") + end
        request.headers.append(b"transfer-encoding: chunked")
    else:
        wrong = 1 if dice.random() < 0.01 else 0
        request.headers.append(b"content-length: %d" % (len(request.body) + wrong))


def bad(dice: random.Random) -> Request:
    request = good(dice)
    worse = dice.sample(WORSE, dice.choice([1, 1, 2]))
    for make in sorted(worse, key=WORSE.index):
        make(dice, request)
    framed(dice, request)
    if other_headers in worse:
        request.may_pass = request.may_pass or request.target.startswith((b"/admin", b"/vapi"))
    return request


class Client:
    """A connection that is opened again when the proxy has closed it."""

    def __init__(self, url: str) -> None:
        host, _, port = url.removeprefix("http://").partition(":")
        self._address = (host, int(port))
        self._socket: socket.socket | None = None

    def ask(self, request: Request) -> tuple[int, bytes, bytes]:
        """Status, head and body of the answer."""
        fresh = self._socket is None
        sock = self._socket or socket.create_connection(self._address, timeout=20)
        self._socket = sock
        try:
            sock.sendall(request.wire())
        except OSError:
            pass  # refused while it was still sending: the answer is there to be read all the same
        try:
            return self._read(sock, request.method == b"HEAD")
        except (OSError, EOFError):
            self.close()
            if fresh:
                raise
            return self.ask(request)  # the connection was being closed after the answer before

    def _read(self, sock: socket.socket, headless: bool) -> tuple[int, bytes, bytes]:
        received = b""
        while b"\r\n\r\n" not in received or received.startswith(b"HTTP/1.1 100"):
            if received.startswith(b"HTTP/1.1 100") and b"\r\n\r\n" in received:
                received = received.partition(b"\r\n\r\n")[2]
                continue
            if not (piece := sock.recv(65536)):
                raise EOFError(received)
            received += piece
        head, _, body = received.partition(b"\r\n\r\n")
        lines = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
        length = 0 if headless or b" 204 " in head[:14] else int(lines.get(b"content-length", b"-1"))
        while length < 0 or len(body) < length:
            if not (piece := sock.recv(65536)):
                break
            body += piece
        self.close()  # one request each: what is left of a bad one must not be taken for the next
        return int(head.split(b" ", 2)[1]), head, body

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


@pytest.fixture(scope="module")
def proxy() -> Iterator[Running]:
    with OpenAIDouble(key="") as east, AnthropicDouble(key="") as claude, OllamaDouble() as ollama:
        for double in (east, claude, ollama):
            double.always = Status(400, "The upstream does not like it.")  # so that nothing bad becomes good upstream
        config = CONFIG.format(east=east.url, claude=claude.url, ollama=ollama.url)
        with sluice(config, limits=Limits(header=0.3, body=0.3, max_body=2**20)) as running:
            yield running


def problem_with(request: Request, status: int, head: bytes, body: bytes) -> str:
    """What is wrong with an answer; "": nothing."""
    if status >= 500 and not (status == 503 and b"upstream_not_configured" in body):
        return f"{status} is the proxy's own fault, or says so"
    if status < 400:
        return "" if request.may_pass else f"{status} for a bad request"
    if b"\r\nx-request-id: " not in head.lower():
        return "no request id"
    if request.method == b"HEAD":
        return ""
    try:
        error = orjson.loads(body)["error"]
    except (ValueError, LookupError, TypeError):
        return "not in OpenAI's form"
    if set(error) != {"message", "type", "param", "code"} or not error["message"] or not error["code"]:
        return "not all of OpenAI's form"
    return "" if error["type"] else "no type"


def test_bad_requests_are_answered_4xx_in_openais_form(proxy: Running) -> None:
    dice, client = random.Random(SEED), Client(proxy.url)
    seen: Counter[int] = Counter()
    for at in range(COUNT):
        request = bad(dice)
        try:
            status, head, body = client.ask(request)
        except (OSError, EOFError) as error:
            raise AssertionError(
                f"seed {SEED}, request {at}: no answer ({error!r}) to {request.wire()[:2000]!r}"
            ) from None
        problem = problem_with(request, status, head, body)
        assert not problem, (
            f"seed {SEED}, request {at}: {problem}: {request.wire()[:2000]!r} got {head!r} {body[:500]!r}"
        )
        seen[status] += 1
    assert sum(number for status, number in seen.items() if status >= 400) > COUNT * 0.9
    assert {400, 404, 405, 415} <= set(seen)
    answer = proxy.chat(CHAT)  # and it still stands
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "The upstream does not like it."
    assert proxy.metric("sluice_streams_open") == 0
    assert proxy.metric("sluice_in_flight") == 0
