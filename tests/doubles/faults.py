"""What can go wrong with a provider's answer: each fault is a callable that `Double.script` takes.

Events are counted from 0, the role event of a stream included.
"""

import time
from dataclasses import dataclass, replace
from typing import Any

from tests.doubles.server import Double, Fault
from tests.doubles.wire import FOREVER, Answer, Cut, Hold, How, Received, Wait, json_answer, text_answer
from tests.doubles.words import Said


def events(answer: Answer) -> list[bytes]:
    """The events of an honest stream (of a whole answer: its one body)."""
    return [act for act in answer.acts if isinstance(act, bytes)]


def split(answer: Answer, at: int) -> tuple[list[bytes], list[bytes]]:
    """The first `at` events of a stream and the rest; of a whole answer two thirds of its bytes and the rest."""
    if answer.framing == "chunked":
        sent = events(answer)
        return sent[:at], sent[at:]
    cut = len(answer.body) * 2 // 3
    return [answer.body[:cut]], [answer.body[cut:]]


@dataclass(frozen=True, slots=True)
class Fine:
    """Nothing wrong: holds a place in a script."""

    def __call__(self, double: Double, request: Received) -> Answer:
        return double.answer(request)


@dataclass(frozen=True, slots=True)
class Say:
    """This answer for one call, with what may go wrong in it."""

    said: Said | str
    fault: Fault = Fine()

    def __call__(self, double: Double, request: Received) -> Answer:
        said = Said(self.said) if isinstance(self.said, str) else self.said
        return self.fault(double, replace(request, said=said))


@dataclass(frozen=True, slots=True)
class Status:
    """An HTTP error in the provider's own form, or with another body."""

    status: int
    message: str = "Something went wrong upstream."
    code: str | None = None
    retry_after: float | str | None = None  # seconds, or a date as text
    retry_after_ms: float | None = None
    body: bytes | None = None
    headers: tuple[tuple[str, str], ...] = ()

    def __call__(self, double: Double, request: Received) -> Answer:
        answer = double.failed(request, self.status, self.message, self.code)
        if self.body is not None:
            answer = answer.with_acts(self.body)
        more = list(self.headers)
        if self.retry_after is not None:
            more.append(("retry-after", str(self.retry_after)))
        if self.retry_after_ms is not None:
            more.append(("retry-after-ms", str(self.retry_after_ms)))
        return replace(answer, headers=(*answer.headers, *more))


@dataclass(frozen=True, slots=True)
class ResetBeforeHeaders:
    """The connection is reset (or closed) once the request was read."""

    how: How = "reset"

    def __call__(self, double: Double, request: Received) -> Answer:
        return Answer(before=(Cut(self.how),))


@dataclass(frozen=True, slots=True)
class Silent:
    """The request is taken, and never answered; after `seconds` the connection is closed."""

    seconds: float = FOREVER

    def __call__(self, double: Double, request: Received) -> Answer:
        return Answer(before=(Wait(self.seconds), Cut()))


@dataclass(frozen=True, slots=True)
class Late:
    """Everything is right, but the head comes after so many seconds."""

    seconds: float

    def __call__(self, double: Double, request: Received) -> Answer:
        return replace(double.answer(request), before=(Wait(self.seconds),))


@dataclass(frozen=True, slots=True)
class Held:
    """Everything is right, but the head comes only when the test calls `double.release()`."""

    def __call__(self, double: Double, request: Received) -> Answer:
        return replace(double.answer(request), before=(Hold(),))


@dataclass(frozen=True, slots=True)
class HeadersThenSilence:
    """The head, then nothing for so many seconds, then the end of the connection."""

    seconds: float = FOREVER

    def __call__(self, double: Double, request: Received) -> Answer:
        return double.answer(request).with_acts(Wait(self.seconds), Cut())


@dataclass(frozen=True, slots=True)
class FirstTokenAfter:
    """The head at once, the body after so many seconds."""

    seconds: float

    def __call__(self, double: Double, request: Received) -> Answer:
        answer = double.answer(request)
        return answer.with_acts(Wait(self.seconds), *answer.acts)


@dataclass(frozen=True, slots=True)
class CutAfter:
    """So many events, then the end; of a whole answer: two thirds of its bytes."""

    events: int = 40
    how: How = "close"

    def __call__(self, double: Double, request: Received) -> Answer:
        answer = double.answer(request)
        return answer.with_acts(*split(answer, self.events)[0], Cut(self.how))


@dataclass(frozen=True, slots=True)
class CutAtByte:
    """So many bytes of the body, then the end."""

    bytes: int
    how: How = "close"

    def __call__(self, double: Double, request: Received) -> Answer:
        answer = double.answer(request)
        return answer.with_acts(answer.body[: self.bytes], Cut(self.how))


@dataclass(frozen=True, slots=True)
class StallAfter:
    """So many events, then silence, then the connection is closed, or the stream goes on."""

    events: int = 20
    seconds: float = 30
    resume: bool = False

    def __call__(self, double: Double, request: Received) -> Answer:
        answer = double.answer(request)
        sent, rest = split(answer, self.events)
        return answer.with_acts(*sent, Wait(self.seconds), *(rest if self.resume else [Cut()]))


@dataclass(frozen=True, slots=True)
class HoldAfter:
    """So many events, then the rest when the test calls `double.release()`."""

    events: int = 1

    def __call__(self, double: Double, request: Received) -> Answer:
        answer = double.answer(request)
        sent, rest = split(answer, self.events)
        return answer.with_acts(*sent, Hold(), *rest)


@dataclass(frozen=True, slots=True)
class NoDone:
    """Complete to the finish reason, without the mark that ends the stream."""

    def __call__(self, double: Double, request: Received) -> Answer:
        answer = double.answer(request)
        return answer.with_acts(*(event for event in events(answer) if not double.is_end(event)))


@dataclass(frozen=True, slots=True)
class NoFinish:
    """So many events, then the mark that ends the stream: as if complete, but no finish reason came."""

    events: int = 40

    def __call__(self, double: Double, request: Received) -> Answer:
        answer = double.answer(request)
        sent = events(answer)
        return answer.with_acts(*sent[: self.events], *(event for event in sent if double.is_end(event)))


@dataclass(frozen=True, slots=True)
class ErrorEvent:
    """So many events, then an error in the provider's form, then the end of the body."""

    after: int = 2
    code: int | str = "server_error"
    message: str = "The server had an error while processing your request. Sorry about that!"
    with_done: bool = False

    def __call__(self, double: Double, request: Received) -> Answer:
        answer = double.answer(request)
        sent = events(answer)
        end = [event for event in sent if double.is_end(event)] if self.with_done else []
        return answer.with_acts(*sent[: self.after], double.failed_event(request, self.message, self.code), *end)


@dataclass(frozen=True, slots=True)
class ErrorIn200:
    """An error as JSON with status 200: the provider's own form, or this body."""

    body: bytes | None = None

    def __call__(self, double: Double, request: Received) -> Answer:
        answer = double.failed(request, 500, "The model is overloaded.", "server_error")
        return replace(answer, status=200, acts=(self.body,) if self.body is not None else answer.acts)


@dataclass(frozen=True, slots=True)
class HtmlIn200:
    """A page of some middlebox, with status 200."""

    status: int = 200

    def __call__(self, double: Double, request: Received) -> Answer:
        page = "<!DOCTYPE html><html><head><title>Sign in</title></head><body><h1>Sign in</h1></body></html>\n"
        return text_answer(page, self.status, "text/html; charset=utf-8")


@dataclass(frozen=True, slots=True)
class ContextLength:
    """The prompt is too long, in the provider's own words."""

    def __call__(self, double: Double, request: Received) -> Answer:
        return double.too_long(request)


@dataclass(frozen=True, slots=True)
class ContentFilter:
    """The prompt is refused by a content filter, in the provider's own words."""

    def __call__(self, double: Double, request: Received) -> Answer:
        return double.filtered(request)


@dataclass(frozen=True, slots=True)
class RoleOnlyThen:
    """The role event alone, which is no content yet, and then what the fault does to the body."""

    fault: Fault

    def __call__(self, double: Double, request: Received) -> Answer:
        answer = double.answer(request)
        sent = events(answer)
        at = next(at for at, event in enumerate(sent) if not event.startswith(b":"))
        role = sent[: at + 1]
        bad = self.fault(double, request)
        return answer.with_acts(*role, *(act for act in (*bad.before, *bad.acts) if act not in role))


@dataclass(frozen=True, slots=True)
class RejectPrefill:
    """400 where the last message is the assistant's; otherwise fine."""

    def __call__(self, double: Double, request: Received) -> Answer:
        messages = request.json.get("messages") or [{}]
        if messages[-1].get("role") != "assistant":
            return double.answer(request)
        message = "This model does not support assistant message prefill. The last message must be from the user."
        return double.failed(request, 400, message, "invalid_value")


@dataclass(frozen=True, slots=True)
class CloseOnReuse:
    """This answer is right and promises keep-alive, but the connection is closed when the next request comes on it."""

    def __call__(self, double: Double, request: Received) -> Answer:
        return replace(double.answer(request), after="trap")


@dataclass(frozen=True, slots=True)
class CloseAfter:
    """This answer is right and promises keep-alive, but the connection is closed right after it."""

    def __call__(self, double: Double, request: Received) -> Answer:
        return replace(double.answer(request), after="close")


@dataclass(frozen=True, slots=True)
class Redirect:
    """Sent elsewhere."""

    location: str
    status: int = 307

    def __call__(self, double: Double, request: Received) -> Answer:
        return Answer(self.status, (("location", self.location),))


@dataclass(frozen=True, slots=True)
class Json:
    """This JSON, whatever was asked."""

    value: Any
    status: int = 200

    def __call__(self, double: Double, request: Received) -> Answer:
        return json_answer(self.value, self.status)


@dataclass(frozen=True, slots=True)
class Flap:
    """Fails so many times, then the script goes on."""

    times: int
    fault: Fault = Status(503)

    def __call__(self, double: Double, request: Received) -> Answer:
        return self.fault(double, request)

    def over(self, served: int) -> bool:
        return served >= self.times


@dataclass(frozen=True, slots=True)
class DownUntil:
    """Fails until that instant (time.monotonic()), then the script goes on."""

    time: float
    fault: Fault = Status(503)

    def __call__(self, double: Double, request: Received) -> Answer:
        return self.fault(double, request)

    def over(self, served: int) -> bool:
        return time.monotonic() >= self.time


def down_for(seconds: float, fault: Fault | None = None) -> DownUntil:
    """Down from now on for so many seconds."""
    return DownUntil(time.monotonic() + seconds, fault or Status(503))
