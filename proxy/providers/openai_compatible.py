"""OpenAI's own dialect, which most upstreams speak: requests and answers stay unchanged."""

from collections.abc import Generator, Mapping, Sequence
from typing import Any, Final

import orjson

from proxy.call import Headers
from proxy.errors import SluiceError
from proxy.providers.contract import Answer, Model, Order, Provider, Reader, Request, Target
from proxy.providers.failures import error_in_event, judge
from proxy.providers.forwarding import once
from proxy.providers.reading import count
from proxy.providers.reports import Report, report_in, report_of
from proxy.sse import EventCutter

_JSON: Final = b"application/json"
_EVENTS: Final = b"text/event-stream"
_NO_JSON: Final = frozenset({"audio/speech"})  # endpoints whose answers are not JSON
_NO_SUCH_PATH: Final = frozenset({404, 405, 501})  # a server that lists no models may answer calls all the same
_CONTEXT: Final = ("max_model_len", "context_length", "context_window", "max_context_length")
_OUTPUT: Final = ("max_output_tokens", "max_completion_tokens")


class OpenAICompatible(Provider):
    """Any server that answers `{base}/chat/completions` as OpenAI does."""

    name = "openai"
    usual_path = "/v1"

    def request(self, order: Order) -> Request:
        """The order unchanged, with the target's credentials and the configured headers over the client's."""
        target = order.target
        lines = once(order, (self, target.key, target.headers, order.stream, order.endpoint), self._lines)
        return Request("/" + order.endpoint, order.body, "POST", lines)

    def _lines(self, order: Order) -> Headers:
        accepted = _EVENTS if order.stream else _JSON if order.endpoint not in _NO_JSON else b"*/*"
        own = {b"content-type": _JSON, b"accept": accepted, **self.headers(order.target)}
        return [*own.items(), *(line for line in order.headers if line[0] not in own)]

    def headers(self, target: Target) -> dict[bytes, bytes]:
        """Credentials, and the headers that the config adds or replaces."""
        key = {b"authorization": b"Bearer " + target.key.encode()} if target.key else {}
        return key | dict(target.headers) if target.headers else key

    def reader(self, order: Order) -> Reader:
        """Whole events, unchanged; the watch parses them."""
        return EventCutter()

    def whole(self, order: Order, body: bytes) -> bytes:
        """The same bytes. Raises an error that a 200 holds, and upstream_malformed if it is not JSON."""
        if body.find(b'"error"') < 0 and body[:1] == b"{" and body[-1:] == b"}":
            if order.endpoint != "responses" or body.find(b'"failed"') < 0:
                return body
        if order.endpoint in _NO_JSON and body[:1] not in (b"<", b"{"):
            return body
        if report := report_of(parse_answer(body)):
            raise self.judge(0, report)
        return body

    def failure(self, status: int, headers: Headers, body: bytes) -> SluiceError:
        """By status, and by the report in the body."""
        return self.judge(status, report_in(body), headers)

    def failure_in(self, event: Mapping[str, Any]) -> SluiceError | None:
        """As in a whole answer."""
        report = report_of(event)
        return None if report is None else self.judge(0, report)

    def judge(self, status: int, report: Report, headers: Headers | None = None) -> SluiceError:
        """The error that a report means; status 0: it came inside a 200.

        Subclasses handle their provider's own codes here.
        """
        return judge(status, report, headers)

    def catalog(self, target: Target) -> Generator[Request, Answer, Sequence[Model] | None]:
        """GET /models: `{"data": [{"id", …}]}` or the bare array; None where the server has no such path."""
        headers = [(b"accept", _JSON), *self.headers(target).items()]
        answer = yield Request(self.models_path(target), method="GET", headers=headers)
        if answer.status in _NO_SUCH_PATH:
            return None
        listed = self.listed(answer)
        named = (entry for entry in listed if isinstance(entry, dict) and isinstance(entry.get("id"), str))
        return [self.model(entry) for entry in named if entry["id"]]

    def models_path(self, target: Target) -> str:
        """The path of its list of models."""
        return "/models"

    def listed(self, answer: Answer) -> list[Any]:
        """The entries of a list of models. Raises SluiceError if the answer is no list."""
        if not 200 <= answer.status < 300:
            raise self.failure(answer.status, answer.headers, answer.body)
        fields = parse_answer(answer.body)
        entries = fields.get("data", fields.get("models")) if isinstance(fields, dict) else fields
        if entries is None and isinstance(fields, dict) and "data" in fields:
            return []  # Ollama sends null for no models
        if not isinstance(entries, list):
            raise error_in_event(fields) or SluiceError(
                "upstream_malformed", "The upstream's answer is not a list of models.", again="next"
            )
        return entries

    def model(self, entry: Mapping[str, Any]) -> Model:
        """One entry of the list; servers that report limits do so under various names."""
        return Model(
            id=entry["id"].removeprefix("models/"),
            context=first_count(entry, _CONTEXT),
            output=first_count(entry, _OUTPUT),
            created=count(entry.get("created")),
            owner=entry["owned_by"] if isinstance(entry.get("owned_by"), str) else None,
        )


def parse_answer(body: bytes) -> Any:
    """The JSON object or array in an answer, blank lines around it allowed (DeepSeek sends some to queued calls)."""
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError:
        fields = None
    if isinstance(fields, dict | list):
        return fields
    raise SluiceError("upstream_malformed", "The upstream's answer is not JSON.", again="next")


def first_count(entry: Mapping[str, Any], names: Sequence[str]) -> int | None:
    """The first of these fields that is a number above 0."""
    return next(filter(None, (count(entry.get(name)) for name in names)), None)
