"""Parses the error report of an upstream, in any of its shapes.

Known shapes: `{"error": {…}}`, `{"error": "text"}` (Ollama, RunPod), `[{"error": {…}}]` (Gemini), flat `{"object":
"error", "message": …}` (old vLLM), `{"detail": …}` (FastAPI), plain text, HTML, and an empty body; `code` is a word, a
number or null. OpenRouter puts its word into `metadata.error_type`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

LONGEST: Final = 1000  # longest text of an upstream that is passed on, in characters
BROKEN_OFF: Final = ("error", "abort", "insufficient_system_resource")
"""Finish reasons of incomplete answers: OpenRouter's and Mistral's, vLLM's, DeepSeek's."""

_WORD: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.\-]{0,63}")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
_TRACE: Final = re.compile(r"(?:Traceback \(most recent call last\)|\btraceback:).*", re.S)
_KEY: Final = re.compile(r"\b(?:sk|gsk|xai|rpa)[-_][\w*.\-]{8,}|\bAIza[\w\-]{20,}|\bBearer\s+[\w*.\-]{8,}")


@dataclass(frozen=True, slots=True)
class Report:
    """What an upstream says about a failure. Empty: nothing that could be parsed."""

    message: str = ""  # clean
    code: str = ""  # a word
    kind: str = ""  # OpenAI's `type`
    param: str | None = None
    status: int = 0  # a numeric code that is an HTTP status of failure
    fields: Mapping[str, Any] = field(default_factory=dict)  # the error object itself


def report_in(body: bytes) -> Report:
    """The report in the body of an answer outside 2xx; empty for HTML and the like."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        text = body[: 4 * LONGEST].decode(errors="replace").strip()
        return Report() if text.startswith("<") else Report(clean(text))
    if report := report_of(answer):
        return report
    if isinstance(answer, str):
        return Report(clean(answer))
    if not isinstance(answer, dict):
        return Report()
    return _report(answer if answer.get("message") else {"message": answer.get("detail")})


def report_of(answer: Any) -> Report | None:
    """The report in a parsed answer with a success status, or in a stream event; None: there is none."""
    if isinstance(answer, list):
        return report_of(answer[0]) if answer and isinstance(answer[0], dict) else None
    if not isinstance(answer, dict):
        return None
    if error := answer.get("error"):
        return _report(error if isinstance(error, dict) else {"message": error, "type": answer.get("error_type")})
    if answer.get("object") == "error":
        return _report(answer)
    if answer.get("object") == "response" and answer.get("status") == "failed":
        return Report()  # without a reason
    choices = answer.get("choices")
    return _report_of_choices(choices) if isinstance(choices, list) else None


def _report_of_choices(choices: list[Any]) -> Report | None:
    for choice in choices:
        if isinstance(choice, dict) and (choice.get("error") or choice.get("finish_reason") in BROKEN_OFF):
            return report_of({"error": choice.get("error")}) or _broken_off(choice.get("finish_reason"))
    return None


def _broken_off(reason: Any) -> Report:
    """The report for a finish reason of BROKEN_OFF; that of "error" has no text."""
    told = reason in BROKEN_OFF and reason != "error"
    return Report(f"it broke the answer off ({reason})", code=reason) if told else Report()


def _report(error: Mapping[str, Any]) -> Report:
    code, kind, param, metadata = error.get("code"), error.get("type"), error.get("param"), error.get("metadata")
    word = _word(code) or (_word(metadata.get("error_type")) if isinstance(metadata, dict) else "")
    status = int(code) if isinstance(code, int) or (isinstance(code, str) and re.fullmatch("[45][0-9]{2}", code)) else 0
    return Report(
        message=clean(_text(error.get("message"))),
        code=word,
        kind=_word(kind),
        param=clean(param) if isinstance(param, str) else None,
        status=status if 400 <= status <= 599 else 0,
        fields=error,
    )


def _word(value: Any) -> str:
    return value if isinstance(value, str) and _WORD.fullmatch(value) else ""


def _text(message: Any) -> str:
    """A message as text; FastAPI's list of `{"loc", "msg"}` becomes one line."""
    if isinstance(message, dict):
        return _text(message.get("detail") or message.get("msg") or message.get("message"))
    if isinstance(message, list):
        return "; ".join(filter(None, map(_detail, message)))
    return message if isinstance(message, str) else ""


def _detail(entry: Any) -> str:
    if not isinstance(entry, dict):
        return entry if isinstance(entry, str) else ""
    place = entry.get("loc")
    where = ".".join(str(step) for step in place if step != "body") if isinstance(place, list) else ""
    return ": ".join(filter(None, (where, _text(entry.get("msg")))))


def clean(text: str) -> str:
    """Foreign text made presentable: without traceback, keys and control characters, and limited in length."""
    text = _TRACE.sub("", text[: 8 * LONGEST])
    text = _KEY.sub("***", _CONTROL.sub(" ", text)).strip()
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
