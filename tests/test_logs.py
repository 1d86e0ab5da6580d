"""Log lines stay one line each whatever is in them, and a log that nobody reads holds nobody up."""

import io
import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.call import Call
from proxy.errors import SluiceError
from proxy.instruments import Instruments
from proxy.logs import JsonLines, Readable, Writer, dropped_lines, ended_call, keep_content, words_of
from proxy.policies.allowances import Allowance, Limits
from proxy.usage import Usage
from tests.waiting import wait_for

HOSTILE = "x\x1b[2J\r\n2026 INFO forged\x00\x07\x7f\x9b31m\x85\u2028\u2029\u202e\ud800\ufeffend"
FORMS = [JsonLines(), Readable()]


def call(**more: Any) -> Call:
    made = Call("req_1", "openai", "chat/completions", more.pop("model", "m"), b"{}", {})
    for name, value in more.items():
        setattr(made.trace, name, value)
    return made


def record(message: str, *values: object, error: BaseException | None = None) -> logging.LogRecord:
    about = None if error is None else (type(error), error, None)
    return logging.LogRecord("sluice", logging.INFO, "", 0, message, values, about)


def dangerous(text: str) -> set[str]:
    """The signs in it that a terminal or a reader of lines would obey."""
    return {sign for sign in text if sign != "\n" and (not sign.isprintable())}


@pytest.mark.parametrize("form", FORMS)
def test_what_a_client_names_stays_inside_the_line_of_its_call(form: JsonLines | Readable) -> None:
    made = call(model=HOSTILE, upstream=HOSTILE, route=HOSTILE, attempts=(HOSTILE,))
    made.trace.model = HOSTILE
    line = form.call(ended_call(made, 0.1))
    assert not dangerous(line)
    assert "\n" not in line
    line.encode()


def test_a_call_of_a_made_key_names_it_and_others_are_without() -> None:
    made = call(status=200)
    assert "key" not in orjson.loads(JsonLines().call(ended_call(made, 0.1)))
    made.allowance = Allowance("team", "key-0", Limits(), None, lambda name: 0.0)
    assert orjson.loads(JsonLines().call(ended_call(made, 0.1)))["key"] == "team"


@pytest.mark.parametrize("form", FORMS)
def test_what_a_message_is_about_forges_no_line(form: JsonLines | Readable) -> None:
    text = form.format(record("breaker of %s opened", HOSTILE))
    assert not dangerous(text)
    assert all(line.startswith(" ") for line in text.split("\n")[1:])  # a second line shows that it is none of its own
    text.encode()


@pytest.mark.parametrize("form", FORMS)
def test_exceptions_are_logged_without_harm(form: JsonLines | Readable) -> None:
    text = form.format(record("failed", error=ValueError(HOSTILE)))
    assert "ValueError" in text
    assert not dangerous(text)
    assert all(line.startswith(" ") for line in text.split("\n")[1:])


@given(st.text(), st.sampled_from(FORMS))
def test_no_text_leaves_its_line(text: str, form: JsonLines | Readable) -> None:
    said = form.call(ended_call(call(model=text, upstream="up"), 0.1))
    assert len(said.splitlines()) == 1
    said.encode()


def test_a_call_is_logged_in_full_and_without_its_prompt() -> None:
    made = call(route="gpt-", upstream="east", model="gpt-4o", attempts=("east:200",), status=200, usage=Usage(3, 5))
    made.body = b"the prompt"
    said = orjson.loads(JsonLines().call(ended_call(made, 0.25)))
    assert said | {"time": ""} == said | {"time": "", "route": "gpt-", "upstream": "east", "code": "ok", "ms": 250.0,
                                          "tokens_input": 3, "tokens_output": 5, "attempts": ["east:200"]}  # fmt: skip
    assert "prompt" not in said
    made.trace.failure = SluiceError("upstream_error", "x")
    assert orjson.loads(JsonLines().call(ended_call(made, 0.25)))["level"] == "warning"


@pytest.mark.parametrize(
    ("kept", "words"),
    [
        (None, {}),
        ([b"the prompt"], {"prompt": "the prompt", "answer": ""}),
        ([b"the prompt", b"an ", b"answer\xff"], {"prompt": "the prompt", "answer": "an answer\ufffd"}),
    ],
)
def test_kept_content_is_logged(kept: list[bytes] | None, words: dict[str, str]) -> None:
    assert words_of(kept) == words


def test_no_more_is_kept_than_is_logged() -> None:
    trace = call().trace
    for piece in (b"p" * 2**20, b"first ", *[b"x" * 1000] * 500):
        keep_content(trace, piece)
    assert trace.kept is not None
    assert len(trace.kept) < 70 and sum(map(len, trace.kept)) == 2 * 2**16
    assert words_of(trace.kept) == {"prompt": "p" * 2**16, "answer": ("first " + "x" * 2**16)[: 2**16]}


def test_content_is_logged_although_the_call_has_dropped_it() -> None:
    stream = io.StringIO()
    writer = Writer(stream, JsonLines())
    made = call(kept=[b"the prompt", b"the answer"])
    writer.note(made, 0.1)
    made.trace.kept = None
    writer.close()
    said = orjson.loads(stream.getvalue())
    assert (said["prompt"], said["answer"]) == ("the prompt", "the answer")


def test_where_nobody_reads_little_is_held_of_what_was_said() -> None:
    reading, writing = os.pipe()
    with open(writing, "w", encoding="utf-8") as stream, open(reading, "rb", 0) as pipe:  # closed, also if this fails
        writer = Writer(stream, JsonLines())
        writer.emit(record("x" * 300_000))  # more than the pipe holds, in one round: from here on nothing is written
        wait_for(lambda: not writer._lines)
        said = [b"p" * 2**16, b"a" * 2**16]  # the most that `keep_content` keeps
        for _ in range(2000):
            writer.note(call(kept=said), 0.1)
        lines = [line() for line in writer._lines]
        assert len(lines) == 2000
        assert sum('"prompt"' in line for line in lines) == 500
        assert max(map(len, lines)) < 2**18
        pipe.close()
        wait_for(lambda: writer.dropped.value > 0)
        writer.close()
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def test_what_is_dropped_can_be_scraped() -> None:
    made = Instruments()
    stream = io.StringIO()
    stream.close()
    writer = Writer(stream, JsonLines(), dropped_lines(made))
    writer.emit(record("lost"))
    writer.close()
    assert made.snapshot() == {"sluice_log_lines_dropped_total": [((), [1.0])]}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("usage", [Usage(), Usage(0, 0), Usage(2**65, 2**65, cost=float("inf"))])
def test_any_number_can_be_logged(form: JsonLines | Readable, usage: Usage) -> None:
    assert form.call(ended_call(call(usage=usage), float("nan")))


def test_lines_are_written_in_order_and_the_rest_at_the_end() -> None:
    stream = io.StringIO()
    writer = Writer(stream, JsonLines())
    for at in range(500):
        writer.emit(record("line %d", at))
    writer.note(call(), 0.1)
    writer.close()
    said = [orjson.loads(line)["message"] for line in stream.getvalue().splitlines()]
    assert said == [f"line {at}" for at in range(500)] + ["call"]
    assert writer.dropped.value == 0


def test_a_line_that_cannot_be_made_is_counted_and_does_not_end_the_log() -> None:
    stream = io.StringIO()
    writer = Writer(stream, JsonLines())
    broken = call()
    broken.trace.usage = None  # type: ignore[assignment]
    writer.note(broken, 0.1)
    writer.emit(record("after"))
    writer.close()
    assert "after" in stream.getvalue()
    assert writer.dropped.value == 1


def test_a_pipe_that_nobody_reads_holds_nobody_up_and_what_is_dropped_is_counted() -> None:
    reading, writing = os.pipe()
    stream = os.fdopen(writing, "w")
    writer = Writer(stream, JsonLines())
    for at in range(30_000):  # that it comes to its end says that nothing waited: nobody reads
        writer.note(call(model=f"m{at}"), 0.1)
        if at == 1000:
            time.sleep(0.2)  # the thread runs into the full pipe
    assert 5_000 <= writer.dropped.value < 20_000
    began = time.perf_counter()
    writer.close()
    assert time.perf_counter() - began < 3
    received: list[bytes] = []

    def read() -> None:
        while piece := os.read(reading, 65536):
            received.append(piece)

    reader = threading.Thread(target=read)
    reader.start()
    dropped = int(writer.dropped.value)
    wait_for(lambda: b"".join(received).count(b"\n") >= 30_000 - dropped)  # it goes on where it was
    stream.close()
    reader.join()
    os.close(reading)
    assert b"".join(received).count(b"\n") == 30_000 - dropped


def test_a_pipe_whose_reader_is_gone_is_counted_and_survived() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(os.dup(writing), "w", buffering=1, encoding="utf-8", closefd=True) as stream:
        os.close(writing)
        writer = Writer(stream, JsonLines())
        writer.emit(record("lost"))
        wait_for(lambda: writer.dropped.value == 1)
        writer.emit(record("lost too"))
        wait_for(lambda: writer.dropped.value == 2)
        writer.close()
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # what is left in the buffer can go there


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_process_whose_log_is_stuck_still_ends_well(form: str) -> None:
    code = (
        "import logging, sys\nfrom proxy.logs import configure\n"
        f"writer = configure({form!r}, 'info')\n"
        "for at in range(20000): logging.getLogger('sluice').info('x' * 100)\n"
        "print('said', flush=True)\nwriter.close()\n"
    )
    reading, writing = os.pipe()
    try:
        ended = subprocess.run(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            stderr=writing,
            timeout=20,
            cwd=Path(__file__).parent.parent,
        )
    finally:
        os.close(writing)
        os.close(reading)
    assert (ended.returncode, ended.stdout) == (0, b"said\n")
