"""Faults of upstreams: each is a script for the target that is asked first."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from proxy.selftest.dialects import Stream
from proxy.selftest.upstream import Ask, Script, healthy
from proxy.selftest.wire import FOREVER, Act, Answer, Cut, Wait

PAGE: Final = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body><h1>502 Bad Gateway</h1></body></html>\n"
Edit = Callable[[Ask, Stream], tuple[Act, ...]]
"""Replaces the events of a correct stream by other steps."""
_JSON: Final = "application/json"
_HTML: Final = "text/html; charset=utf-8"


def refused(status: int, message: str, code: str = "", retry_after: float | None = None) -> Script:
    """An HTTP error in the provider's form. `retry_after`: seconds, unscaled."""

    def script(ask: Ask) -> Answer:
        asks = () if retry_after is None else (("retry-after", f"{retry_after * ask.scale:g}"),)
        return Answer(status, _JSON, (ask.dialect.error(status, message, code),), headers=asks)

    return script


def times(count: int, script: Script) -> Script:
    """The first `count` requests fail, later ones do not."""
    return lambda ask: script(ask) if ask.nth <= count else healthy(ask)


def down_for(seconds: float, script: Script) -> Script:
    """All requests fail for so many seconds."""
    return lambda ask: script(ask) if ask.since < seconds else healthy(ask)


def flapping(script: Script) -> Script:
    """One request in three is answered, the others go wrong."""
    return lambda ask: healthy(ask) if ask.nth % 3 == 0 else script(ask)


def reset(ask: Ask) -> Answer:
    """The connection is reset after the request was read."""
    return Answer(200, _JSON, before=(Cut("reset"),))


def silent(ask: Ask) -> Answer:
    """The request is read and never answered."""
    return Answer(200, _JSON, before=(Wait(FOREVER), Cut()))


def page(status: int) -> Script:
    """A middlebox answers with HTML."""
    return lambda ask: Answer(status, _HTML, (PAGE,))


def error_in_200(ask: Ask) -> Answer:
    """An error as JSON, with status 200."""
    return Answer(200, _JSON, (ask.dialect.error(503, "The model is overloaded.", "server_error"),))


def empty(ask: Ask) -> Answer:
    """Status 200 with an empty body."""
    return Answer(200, ask.dialect.kind if ask.streamed else _JSON)


def redirected(ask: Ask) -> Answer:
    """A redirect."""
    return Answer(307, _JSON, headers=(("location", "http://127.0.0.1:9/"),))


def no_prefill(ask: Ask) -> Answer:
    """400 where the last message is the assistant's."""
    if not ask.continues:
        return healthy(ask)
    return refused(400, "This model does not support assistant message prefill.", "invalid_value")(ask)


def edited(edit: Edit) -> Script:
    """Replaces the correct stream by other steps; an answer asked for in one piece is cut after two thirds."""

    def script(ask: Ask) -> Answer:
        answer = healthy(ask)
        if not ask.streamed:
            body = ask.dialect.whole(ask.completion())
            return replace(answer, acts=(body[: len(body) * 2 // 3], Cut()))
        return replace(answer, acts=edit(ask, ask.dialect.stream(ask.completion())))

    return script


def late(seconds: float) -> Script:
    """The head at once, the first event after so many seconds."""
    return edited(lambda ask, stream: (Wait(seconds), *stream.events))


def cut(tokens: int) -> Script:
    """Closed after so many tokens, without an end."""
    return edited(lambda ask, stream: (*stream.opening, *stream.tokens[:tokens], Cut()))


def ended_early(tokens: int) -> Script:
    """The body ends properly after so many tokens; only the finish is missing."""
    return edited(lambda ask, stream: (*stream.opening, *stream.tokens[:tokens]))


def stalled(tokens: int, seconds: float) -> Script:
    """Silent after so many tokens, then closed."""
    return edited(lambda ask, stream: (*stream.opening, *stream.tokens[:tokens], Wait(seconds), Cut()))


def error_event(tokens: int) -> Script:
    """An error event after so many tokens."""

    def edit(ask: Ask, stream: Stream) -> tuple[Act, ...]:
        opening = stream.opening if tokens else ()
        return (*opening, *stream.tokens[:tokens], ask.dialect.error_event("The server had an error."))

    return edited(edit)


def invalid_json(ask: Ask, stream: Stream) -> tuple[Act, ...]:
    """One event in the middle is not JSON."""
    bad = stream.tokens[10].rstrip(b"\n")[:-20] + stream.tokens[10][len(stream.tokens[10].rstrip(b"\n")) :]
    return (*stream.opening, *stream.tokens[:10], bad, *stream.tokens[10:], *stream.finish, *stream.usage, *stream.end)


def no_end(ask: Ask, stream: Stream) -> tuple[Act, ...]:
    """Complete, without the end marker."""
    return (*stream.opening, *stream.tokens, *stream.finish, *stream.usage)


def no_usage(ask: Ask, stream: Stream) -> tuple[Act, ...]:
    """Complete, but without the usage that was asked for."""
    return (*stream.opening, *stream.tokens, *stream.finish, *stream.end)


def wrong_usage(ask: Ask, stream: Stream) -> tuple[Act, ...]:
    """Token counts that are no valid counts."""
    bad = (event.replace(b":60", b':"many"').replace(b":11", b":-4") for event in stream.usage)
    return (*stream.opening, *stream.tokens, *stream.finish, *bad, *stream.end)


def only_a_role(ask: Ask, stream: Stream) -> tuple[Act, ...]:
    """Comments and the role, then the end: no content."""
    comments = (b": PROCESSING\n\n", b": PROCESSING\n\n") if ask.dialect.kind == "text/event-stream" else ()
    return (*comments, *stream.opening, *comments, Cut())


def finish_error(ask: Ask, stream: Stream) -> tuple[Act, ...]:
    """A finish reason that reports a failure (OpenRouter's)."""
    bad = stream.finish[0].replace(b'"finish_reason":"stop"', b'"finish_reason":"error"')
    return (*stream.opening, *stream.tokens[:20], bad, *stream.end)


def bytewise(ask: Ask, stream: Stream) -> tuple[Act, ...]:
    """Every byte by itself, where events differ; further tokens in pieces of seven bytes."""
    start, middle = b"".join((*stream.opening, *stream.tokens[:5])), b"".join(stream.tokens[5:])
    end = b"".join((*stream.finish, *stream.usage, *stream.end))
    single = [tuple(part[at : at + 1] for at in range(len(part))) for part in (start, end)]
    return (*single[0], *(middle[at : at + 7] for at in range(0, len(middle), 7)), *single[1])


def crlf(ask: Ask, stream: Stream) -> tuple[Act, ...]:
    """CRLF line ends, split between the two bytes."""
    return tuple(b"".join(stream.events).replace(b"\n", b"\r\n").replace(b"\r", b"\r\0").split(b"\0"))


def commented(ask: Ask, stream: Stream) -> tuple[Act, ...]:
    """A byte order mark, and comments between all events."""
    return (b"\xef\xbb\xbf", *(b": keep-alive\n\n" + event for event in stream.events))


def multi_line(ask: Ask, stream: Stream) -> tuple[Act, ...]:
    """Each event's JSON split over several `data` lines, with other fields."""
    return tuple(
        event if b"[DONE]" in event else b"id: 7\nretry: 5\n" + event.replace(b',"', b',\ndata: "')
        for event in stream.events
    )


def long_line(megabytes: int) -> Script:
    """A line that never ends, before any content."""
    block = b"x" * (1 << 18)
    return edited(lambda ask, stream: (b"data: ", *(block for _ in range(megabytes * 4)), *stream.events))


def padded(ask: Ask, stream: Stream) -> tuple[Act, ...]:
    """A complete answer with 58 MB of comments in it: more than kernels hold, less than `whole` does."""
    padding = b": " + b"x" * (15 << 16) + b"\n\n"
    return tuple(padding + event for event in stream.events)


def paced(ask: Ask, stream: Stream) -> tuple[Act, ...]:
    """Half of the answer, then a long pause."""
    return (*stream.opening, *stream.tokens[:30], Wait(FOREVER), Cut())


def closes_on_reuse(ask: Ask) -> Answer:
    """A correct answer that promises keep-alive; the next request on that connection finds it closed."""
    return replace(healthy(ask), closes_on_reuse=ask.nth == 1)
