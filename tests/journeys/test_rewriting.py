"""What rules change in calls and answers, and that nothing else changes: bodies and headers, both ways."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import httpx
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.doubles.faults import ErrorIn200, Status
from tests.doubles.oddities import BOM, CRLF, Comments, EventsCutAt, Fields, Raw
from tests.doubles.ollama import OllamaDouble
from tests.doubles.openai import OpenAIDouble
from tests.doubles.server import Double, Fault
from tests.doubles.wire import Answer, Headers, Received
from tests.running import Running, sluice
from tests.streams import chunks

CONFIG = """
upstreams:
  east: {{provider: openai, base_url: {east}, api_key: sk-east, headers: {{x-team: search}}}}
  ollama: {{provider: ollama, base_url: {ollama}}}
routes:
  - prefix: plain/
    to: "east/{{rest}}"
  - prefix: fast/
    to: "east/llama3.2-{{rest}}"
    request:
      default: {{temperature: 0.7}}
      set: {{provider.sort: throughput}}
      rename: {{max_tokens: max_completion_tokens}}
      remove: [logit_bias, metadata]
      system: {{prepend: "Answer in one sentence."}}
      headers: {{set: {{x-project: fast}}, remove: [x-stainless-os]}}
    response:
      model: asked
      remove: [provider, system_fingerprint]
      set: {{service: sluice}}
  - prefix: translated/
    to: "ollama/{{rest}}"
    request:
      default: {{temperature: 0.7}}
      rename: {{limit: max_tokens}}
      system: {{append: "Answer in one sentence."}}
    response:
      model: asked
      set: {{service: sluice}}
"""
ASKED = {
    "model": "fast/8b",
    "messages": [{"role": "user", "content": "hello"}],
    "max_tokens": 9,
    "logit_bias": {"50256": -100},
    "metadata": {"team": "a"},
    "later": {"kept": True},
}


@pytest.fixture(scope="module")
def east() -> Iterator[OpenAIDouble]:
    with OpenAIDouble(key="sk-east") as double:
        double.strict = False
        yield double


@pytest.fixture(scope="module")
def ollama() -> Iterator[OllamaDouble]:
    with OllamaDouble() as double:
        yield double


@pytest.fixture(scope="module")
def proxy(east: OpenAIDouble, ollama: OllamaDouble) -> Iterator[Running]:
    with sluice(CONFIG.format(east=east.url, ollama=ollama.url)) as running:
        yield running


@pytest.fixture(autouse=True)
def everything_works(east: OpenAIDouble) -> Iterator[None]:
    yield
    east.always = None


# Every rule at once.


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_every_rule_on_the_way_out(proxy: Running, east: OpenAIDouble, stream: bool) -> None:
    answer = proxy.chat(ASKED | {"stream": stream}, x_stainless_os="Linux", x_stainless_lang="python", x_project="mine")
    sent = east.calls[-1]
    body = sent.json
    body.pop("stream_options", None)
    assert body == {
        "model": "llama3.2-8b",
        "messages": [
            {"role": "system", "content": "Answer in one sentence."},
            {"role": "user", "content": "hello"},
        ],
        "max_completion_tokens": 9,
        "temperature": 0.7,
        "provider": {"sort": "throughput"},
        "later": {"kept": True},
        "stream": stream,
    }
    assert sent.header("x-project") == "fast" and sent.header("x-team") == "search"
    assert sent.header("x-stainless-lang") == "python" and not sent.header("x-stainless-os")
    assert answer.headers["x-sluice-changes"].split(", ") == [
        "rename max_tokens->max_completion_tokens",
        "default temperature",
        "set provider.sort",
        "remove logit_bias",
        "remove metadata",
        "system prepend",
        "header set x-project",
        "header remove x-stainless-os",
    ]


def test_an_error_has_the_receipt_too(proxy: Running, east: OpenAIDouble) -> None:
    changes = proxy.chat(ASKED).headers["x-sluice-changes"]
    east.script(Status(400))
    refused = proxy.chat(ASKED)
    assert (refused.status_code, refused.headers["x-sluice-changes"]) == (400, changes)


def test_the_receipt_lists_only_what_happened(proxy: Running, east: OpenAIDouble) -> None:
    """What a client sent counts, an explicit null too; and renaming onto a key that is there keeps that key."""
    asked = {
        "model": "fast/8b",
        "messages": [{"role": "developer", "content": "Be kind."}, {"role": "user", "content": "hello"}],
        "temperature": None,
        "max_tokens": 9,
        "max_completion_tokens": 5,
    }
    answer = proxy.chat(asked)
    sent = east.calls[-1].json
    assert sent["temperature"] is None and sent["max_completion_tokens"] == 5 and "max_tokens" not in sent
    assert sent["messages"][0] == {"role": "developer", "content": "Answer in one sentence.\n\nBe kind."}
    changes = answer.headers["x-sluice-changes"].split(", ")
    assert "default temperature" not in changes and "remove metadata" not in changes
    assert "system prepend" in changes and "set provider.sort" in changes


def test_every_rule_on_the_way_back_of_a_whole_answer(proxy: Running, east: OpenAIDouble) -> None:
    answer = proxy.chat(ASKED).json()
    direct = direct_answer(east, east.calls[-1]).json()
    assert "system_fingerprint" in direct and direct["model"] == "llama3.2-8b"
    assert answer == {key: value for key, value in direct.items() if key != "system_fingerprint"} | {
        "model": "fast/8b",
        "service": "sluice",
    }


def test_every_rule_on_the_way_back_of_each_event(proxy: Running, east: OpenAIDouble) -> None:
    asked = ASKED | {"stream": True, "stream_options": {"include_usage": True}}
    events = chunks(proxy.chat(asked).text)
    direct = chunks(direct_answer(east, east.calls[-1]).text)
    assert len(events) == len(direct) > 10
    for event, was in zip(events, direct, strict=True):
        kept = {key: value for key, value in was.items() if key != "system_fingerprint"}
        assert event == kept | {"model": "fast/8b", "service": "sluice"}


def direct_answer(east: OpenAIDouble, sent: Received) -> httpx.Response:
    """What the upstream says to the very same request, without a proxy between."""
    headers = {"authorization": "Bearer sk-east", "content-type": "application/json"}
    return httpx.post(f"{east.url}/chat/completions", content=sent.body, headers=headers, verify=False)


@pytest.mark.parametrize(
    "odd",
    [CRLF(), BOM(), Comments(), Fields(), EventsCutAt((1, 7, 100))],
    ids=["crlf", "bom", "comments", "fields", "cut"],
)
def test_oddly_written_events_are_rewritten_too(proxy: Running, east: OpenAIDouble, odd: Fault) -> None:
    east.always = odd
    text = proxy.chat(ASKED | {"stream": True}).text
    said = [line for line in text.lstrip("\ufeff").splitlines() if line.startswith("data: {")]
    assert len(said) > 10 and text.rstrip().endswith("data: [DONE]")
    for line in said:
        event = orjson.loads(line.removeprefix("data: "))
        assert (event["model"], event["service"]) == ("fast/8b", "sluice") and "system_fingerprint" not in event


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_rules_hold_for_upstreams_of_another_dialect(proxy: Running, ollama: OllamaDouble, stream: bool) -> None:
    """Rules speak of OpenAI's fields; translation comes after them on the way out, and before them on the way back."""
    asked = {"model": "translated/llama3.2", "messages": [{"role": "user", "content": "hello"}], "limit": 4}
    answer = proxy.chat(asked | {"stream": stream})
    sent = ollama.calls[-1].json
    assert sent["options"]["temperature"] == 0.7 and sent["options"]["num_predict"] == 4
    assert sent["messages"][0] == {"role": "system", "content": "Answer in one sentence."}
    for said in chunks(answer.text) if stream else [answer.json()]:
        assert (said["model"], said["service"]) == ("translated/llama3.2", "sluice")
    changes = answer.headers["x-sluice-changes"]
    assert changes.startswith("rename limit->max_tokens, default temperature, system append")


# No rule: every byte as it came.

blank = st.text(" \t\r\n", max_size=2)
numbers = st.sampled_from(
    ["0", "-0", "1.0", "0.10", "1E2", "1e-7", "-1.50e+3", "12345678901234567890", "3.141592653589793238"]
)
plain_text = st.text(
    st.characters(codec="utf-8", exclude_characters='"\\', exclude_categories=["Cc", "Cs"]), max_size=5
)
escapes = st.sampled_from(["\\n", "\\u00e9", "\\u00E9", "\\ud83d\\ude00", "\\/", "/", '\\"', "\\\\", "\\u0041"])
strings = st.lists(plain_text | escapes, max_size=3).map(lambda parts: '"' + "".join(parts) + '"')


def spaced(parts: list[tuple[str, str, str]], ends: str) -> str:
    return ends[0] + ",".join(before + part + after for before, part, after in parts) + ends[1]


def wrapped(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    items = st.lists(st.tuples(blank, values, blank), max_size=3)
    pairs = st.tuples(strings, blank, values).map(lambda pair: f"{pair[0]}{pair[1]}:{pair[2]}")
    members = st.lists(st.tuples(blank, pairs, blank), max_size=3)
    return items.map(lambda parts: spaced(parts, "[]")) | members.map(lambda parts: spaced(parts, "{}"))


values = st.recursive(numbers | strings | st.sampled_from(["true", "false", "null"]), wrapped, max_leaves=8)


@st.composite
def objects(draw: st.DrawFn, /, **known: str) -> str:
    """JSON text of an object that has these members among others, in any order and spelling."""
    members = [f'"{name}"{draw(blank)}:{draw(blank)}{value}' for name, value in known.items()]
    members += [f'"x{at}"{draw(blank)}:{value}' for at, value in enumerate(draw(st.lists(values, max_size=4)))]
    order = draw(st.permutations(members))
    return draw(blank) + spaced([(draw(blank), member, draw(blank)) for member in order], "{}") + draw(blank)


MESSAGES = '[ {"content":"caf\\u00e9" ,"role":"user"} ]'
CHOICES = '[{"index":0, "delta":{"content":"\\u00e9"},"finish_reason":null}]'
quick = settings(max_examples=25, suppress_health_check=list(HealthCheck))


@quick
@given(asked=objects(model='"plain/gpt-4o"', messages=MESSAGES), said=objects(choices=CHOICES, model='"gpt-4o-2024"'))
def test_whole_calls_pass_byte_for_byte(proxy: Running, east: OpenAIDouble, asked: str, said: str) -> None:
    east.always = ErrorIn200(said.encode())
    with proxy.client() as client:
        headers = {"content-type": "application/json"}
        answer = client.post("/v1/chat/completions", content=asked.encode(), headers=headers)
    assert answer.status_code == 200
    assert east.calls[-1].body == asked.replace('"plain/gpt-4o"', '"gpt-4o"').encode()
    assert answer.content == said.encode()
    assert answer.headers["x-sluice-changes"] == ""


@quick
@given(
    asked=objects(model='"plain/gpt-4o"', messages=MESSAGES, stream="true"),
    said=st.lists(objects(choices=CHOICES, model='"gpt-4o-2024"'), min_size=1, max_size=3),
)
def test_streams_pass_byte_for_byte(proxy: Running, east: OpenAIDouble, asked: str, said: list[str]) -> None:
    """But for one thing: usage is asked for, and its event taken out again."""
    lines = [" ".join(event.split("\n")).replace("\r", " ") for event in said]
    events = [f"data: {line}\n\n".encode() for line in lines]
    usage = b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}\n\n'
    finish = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    east.always = Raw((*events, finish, usage, b"data: [DONE]\n\n"))
    with proxy.client() as client:
        headers = {"content-type": "application/json"}
        answer = client.post("/v1/chat/completions", content=asked.encode(), headers=headers)
    assert answer.content == b"".join(events) + finish + b"data: [DONE]\n\n"
    sent = east.calls[-1].body
    assert orjson.loads(sent)["stream_options"] == {"include_usage": True}
    untouched = asked.replace('"plain/gpt-4o"', '"gpt-4o"').encode()
    assert sent.replace(b'"stream_options":{"include_usage":true},', b"", 1) == untouched


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", b'{"prompt" :"hi", "model":"plain/gpt-4o","n": 1.0}'),
        ("/v1/embeddings", b'{"input":["a", "b"],"model" : "plain/text-embedding-3-small"}'),
        ("/v1/responses", b'{"model":"plain/gpt-4o", "input" :"hi", "later": 1e2}'),
        ("/v1/rerank", b'{"model":"plain/gpt-4o", "query" :"hi", "documents":["a"]}'),
    ],
)
def test_the_other_endpoints_pass_byte_for_byte(proxy: Running, east: OpenAIDouble, path: str, body: bytes) -> None:
    with proxy.client() as client:
        answer = client.post(path, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 200
    assert east.calls[-1].path == path and east.calls[-1].body == body.replace(b"plain/", b"")
    headers = {"authorization": "Bearer sk-east", "content-type": "application/json"}
    direct = httpx.post(east.address + path, content=east.calls[-1].body, headers=headers, verify=False)
    assert answer.content == direct.content


# Headers.

PASS_OUT = {
    "user-agent": "OpenAI/Python 3.54.0",
    "x-stainless-lang": "python",
    "x-stainless-retry-count": "0",
    "openai-organization": "org-1",
    "openai-beta": "assistants=v2",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "x-title": "My App",
    "x-session-id": "abc",
    "accept-language": "de",
    "idempotency-key": "once",
}
STOP_OUT = {
    "authorization": "Bearer of-the-client",
    "x-api-key": "of-the-client",
    "api-key": "of-the-client",
    "cookie": "session=of-the-client",
    "proxy-authorization": "Basic of-the-client",
    "connection": "keep-alive, x-hop",
    "x-hop": "one",
    "te": "trailers",
    "upgrade": "websocket",
    "forwarded": "for=10.0.0.1",
    "via": "1.1 a",
    "x-forwarded-for": "10.0.0.1",
    "x-forwarded-host": "inside",
    "x-real-ip": "10.0.0.1",
    "origin": "http://127.0.0.1",
    "referer": "http://127.0.0.1/ui",
    "x-sluice-cache": "off",
    "x-sluice-session": "mine",
    "accept-encoding": "gzip, br",
}


def test_headers_on_the_way_out(proxy: Running, east: OpenAIDouble) -> None:
    with proxy.client() as client:
        body = {"model": "plain/gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
        assert client.post("/v1/chat/completions", json=body, headers=PASS_OUT | STOP_OUT).status_code == 200
    sent = east.calls[-1]
    assert {name: sent.header(name) for name in PASS_OUT} == PASS_OUT
    got = {name.decode(): text.decode() for name, text in sent.headers}
    assert got.pop("authorization") == "Bearer sk-east" and got.pop("host") == east.address.removeprefix("http://")
    assert got.pop("accept-encoding") == "identity"
    assert not got.keys() & (STOP_OUT.keys() - {"connection"})
    assert "x-hop" not in got.get("connection", "")


@dataclass(frozen=True, slots=True)
class With:
    """The honest answer with more headers."""

    headers: Headers

    def __call__(self, double: Double, request: Received) -> Answer:
        answer = double.answer(request)
        return replace(answer, headers=(*answer.headers, *self.headers))


PASS_BACK = {
    "x-custom": "kept",
    "retry-after-ms": "20",
    "x-version": "1.2.3",
    "x-public": "https://status.example.com/8.8.8.8",
}
STOP_BACK = {
    "set-cookie": "a=b",
    "server": "uvicorn",
    "alt-svc": 'h3=":443"',
    "keep-alive": "timeout=5",
    "connection": "keep-alive, x-hop",
    "x-hop": "one",
    "via": "1.1 a",
    "x-forwarded-for": "8.8.8.8",
    "access-control-allow-origin": "*",
    "x-sluice-upstream": "liar",
    "x-served-by": "10.0.0.7",
    "x-backend": "http://localhost:8000/v1",
    "x-node": "ip-10-0-0-1.ec2.internal",
    "x-pod": "[fd00::1]:8000",
    "x-container": "172.17.0.2:80",
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_headers_on_the_way_back(proxy: Running, east: OpenAIDouble, stream: bool) -> None:
    east.always = With((*PASS_BACK.items(), *STOP_BACK.items()))
    body = {"model": "plain/gpt-4o", "messages": [{"role": "user", "content": "hi"}], "stream": stream}
    answer = proxy.chat(body, x_request_id="mine")
    assert answer.status_code == 200
    assert {name: answer.headers.get(name) for name in PASS_BACK} == PASS_BACK
    assert {"openai-version", "openai-processing-ms", "x-ratelimit-remaining-tokens"} <= answer.headers.keys()
    shown = {name: text for name, text in answer.headers.items() if STOP_BACK.get(name) == text}
    assert shown == {}
    assert answer.headers["x-sluice-upstream"] == "east"
    assert answer.headers["x-request-id"] == "mine" and answer.headers["x-upstream-request-id"].startswith("req_")
