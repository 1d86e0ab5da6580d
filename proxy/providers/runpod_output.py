"""Converts the output of RunPod workers, whatever its shape, to OpenAI's events, and cleans up errors of jobs.

Shapes (both designs of worker-vllm, and custom handlers): pieces of an SSE text cut anywhere, chunk objects, whole
completions, `{"choices": [{"tokens": […]}]}`, `{"text": […]}`, plain text, and lists of any of them.
"""

import ast
import re
import warnings
from dataclasses import replace
from typing import Any, Final

import orjson

from proxy.assembling import as_stream
from proxy.errors import SluiceError
from proxy.providers.completions import Chunks, usage
from proxy.providers.failures import judge
from proxy.providers.reports import Report, clean, report_in, report_of
from proxy.sse import DONE, EventCutter
from proxy.usage import is_count

_TEXTS: Final = ("text", "response", "generated_text", "content", "answer", "output", "result")
_LONGEST_REPR: Final = 20_000  # longest Python repr that is parsed, in characters
_LONGEST_START: Final = 1000  # characters within which an SSE stream must have data
_BEFORE_DATA: Final = (":", "event:", "id:", "retry:")  # prefixes of lines that may precede it
_OF_VLLM: Final = re.compile(r"vLLM returned HTTP (\d{3}): (.*)", re.S)


class Transcript:
    """The output of one job so far. `extract`: dotted path of the text in a custom handler's output, or ""."""

    def __init__(self, model: str, job: str, extract: str = "") -> None:
        self._chunks = Chunks(model, f"chatcmpl-{job}")
        self._cutter = EventCutter()
        self._extract = extract.split(".") if extract else []
        self._kind = ""  # "sse": text that is a stream · "own": texts made into chunks · "openai": objects of OpenAI's
        self._start = ""  # the first text, while too short to decide
        self._usage: dict[str, Any] | None = None
        self._finish = "stop"
        self.empty = True  # no output yet

    def take(self, output: Any) -> bytes:
        """Events for one yielded item, or for the whole output. Raises an error that it holds."""
        if output is None or output == "" or output == []:
            return b""
        self.empty = False
        if self._extract and (found := _at(output, self._extract)) is not None:
            return self._own(_texts(found))
        if isinstance(output, str):
            return self._text(output)
        if isinstance(output, list):
            return b"".join(map(self.take, output))
        if isinstance(output, dict):
            return self._object(output)
        return self._own(str(output))

    def finish(self) -> bytes:
        """What was held, and the end events if the handler gave none."""
        start, self._start = self._start, ""
        if start:
            return self._own(start) + self.finish()
        if self._kind == "sse":
            return self._cutter.finish()
        if self._kind != "own":
            return b""
        counts = self._chunks.usage(self._usage) if self._usage else b""
        return self._chunks.finish(self._finish) + counts + DONE

    def _text(self, text: str) -> bytes:
        """Handles a text: a piece of an SSE stream if the first one looks like that, else text of the answer."""
        if not self._kind:
            text, self._start = self._start + text, ""
            begins = _is_stream(text)
            if begins is None:
                self._start = text
                return b""
            if begins:
                self._kind = "sse"
        if self._kind == "sse":
            return self._cutter.feed(text.encode(errors="replace"))
        return self._own(text)

    def _object(self, output: dict[str, Any]) -> bytes:
        if report := report_of(output):
            raise judge(0, report)
        choices = output.get("choices")
        if not isinstance(choices, list):
            return self._own_object(output)
        if any(isinstance(choice, dict) and "tokens" in choice for choice in choices):
            self._note_usage(output.get("usage"))
            return self._own("".join(_texts(choice.get("tokens")) for choice in choices if isinstance(choice, dict)))
        self._kind = "openai"
        whole = any(isinstance(choice, dict) and isinstance(choice.get("message"), dict) for choice in choices)
        return as_stream(orjson.dumps(output)) if whole else b"data: " + orjson.dumps(output) + b"\n\n"

    def _own_object(self, output: dict[str, Any]) -> bytes:
        """Handles a custom object: its text under a common name. Raises upstream_malformed if there is none."""
        self._note_usage(output)
        for name in _TEXTS:
            if output.get(name):
                return self.take(output[name]) if name in ("output", "result") else self._own(_texts(output[name]))
        if any(name in output for name in _TEXTS):
            return self._own("")
        raise SluiceError(
            "upstream_malformed",
            "No text was found in the job's output; set `extract` in config.yaml to its path.",
            again="next",
        )

    def _own(self, text: str) -> bytes:
        first = b"" if self._kind else self._chunks.role()
        self._kind = "own"
        return first + (self._chunks.content(text) if text else b"")

    def _note_usage(self, counts: Any) -> None:
        """`{"input", "output"}`, cumulative (worker-vllm), or `{"input_tokens", "output_tokens"}`."""
        if not isinstance(counts, dict):
            return
        prompt, made = (
            counts.get("input", counts.get("input_tokens")),
            counts.get("output", counts.get("output_tokens")),
        )
        if is_count(prompt) and is_count(made):
            self._usage = usage(prompt, made)


def _is_stream(text: str) -> bool | None:
    """Whether a text begins like server-sent events: with data, or comments and fields before it.

    None: not known yet.
    """
    *lines, last = text[:_LONGEST_START].lstrip("\ufeff \t\r\n").split("\n")
    for line in lines:
        if line.startswith("data:"):
            return True
        if line.strip() and not line.startswith(_BEFORE_DATA):
            return False
    if last.startswith("data:"):
        return True
    begun = last.startswith(_BEFORE_DATA) or any(
        field.startswith(last.rstrip("\r")) for field in ("data:", *_BEFORE_DATA)
    )
    return None if begun and len(text) < _LONGEST_START else False


def _at(output: Any, path: list[str]) -> Any:
    """The value at the path; numbers index lists. None: there is none."""
    for step in path:
        if isinstance(output, list) and step.isdecimal() and int(step) < len(output):
            output = output[int(step)]
        elif isinstance(output, dict):
            output = output.get(step)
        else:
            return None
    return output


def _texts(value: Any) -> str:
    """A text, or a list of texts joined."""
    if isinstance(value, list):
        return "".join(map(_texts, value))
    return value if isinstance(value, str) else "" if value is None else str(value)


def failed(error: Any) -> SluiceError:
    """The error of a failed job, from the `error` that RunPod gives."""
    return judge(0, error_report(error))


def error_report(error: Any) -> Report:
    """The report in RunPod's `error`: text that may hold JSON, a Python repr, a traceback, or vLLM's own answer.

    Of an exception in a handler only the message is shown, never its traceback, host or worker.
    """
    fields = _fields(error)
    text = _message(fields)
    if found := _OF_VLLM.search(text):
        return replace(report_in(found[2].encode(errors="replace")), status=int(found[1]))
    if isinstance(fields, dict) and "error_message" not in fields and (report := report_of({"error": fields})):
        return report
    return Report(clean(text.removeprefix("handler: ")) or "The job failed.")


def _fields(error: Any) -> Any:
    """The object in a text, as JSON or as Python's repr of a dict; else the value unchanged."""
    if not isinstance(error, str) or not error.startswith("{") or len(error) > _LONGEST_REPR:
        return error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python's parser warns of invalid escapes in foreign text
        for read in (orjson.loads, ast.literal_eval):
            try:
                return read(error)
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                continue
    return error


def _message(fields: Any) -> str:
    if isinstance(fields, dict):
        fields = fields.get("error_message") or fields.get("message")
    return fields if isinstance(fields, str) else ""
