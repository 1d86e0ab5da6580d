"""Failures for which an apology is spoken, and others."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from starlette.types import Message

from proxy.call import Call
from proxy.doors.vapi_speaking import VoiceResponder, excusable
from proxy.errors import STATUS, SluiceError
from proxy.reply import Reply
from tests.streams import chunks

FIRST = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":"The sun"}}]}\n\n'
OURS = SluiceError("upstream_truncated", "It broke off.")
THEIRS = SluiceError("context_length_exceeded", "It is too long.")


async def stream(*steps: bytes | SluiceError) -> AsyncIterator[bytes]:
    for step in steps:
        if isinstance(step, SluiceError):
            raise step
        yield step


def heard(*steps: bytes | SluiceError, apology: str | None = "Sorry.", asked_stream: bool = True) -> tuple[int, str]:
    """Status and body of an answer by these events, or of a failure before any."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def speak() -> None:
        call = Call("req", "vapi", "chat/completions", "house", b"", {}, stream=asked_stream)
        responder = VoiceResponder({}, send, call, 60.0, apology)
        try:
            if steps and isinstance(steps[0], SluiceError):
                sending = responder.fail(steps[0])
            else:
                sending = responder.reply(Reply(200, [(b"content-type", b"text/event-stream")], stream=stream(*steps)))
            assert sending is not None
            await sending
        finally:
            responder.close()

    asyncio.run(speak())
    assert not sent[-1].get("more_body"), "the answer has an end"
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:]).decode()


def test_what_does_not_break_is_not_touched() -> None:
    assert heard(FIRST, b"data: [DONE]\n\n") == (200, f"{FIRST.decode()}data: [DONE]\n\n")


def test_a_failure_before_the_first_word_is_spoken() -> None:
    status, text = heard(OURS)
    first, last = chunks(text)
    assert status == 200 and ": sluice apology for=upstream_truncated\n" in text
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": "Sorry."}
    assert (last["choices"][0]["delta"], last["choices"][0]["finish_reason"]) == ({}, "stop")
    assert {chunk["object"] for chunk in (first, last)} == {"chat.completion.chunk"}
    assert first["id"] == last["id"] and first["model"] == "house"


def test_a_break_in_mid_sentence_is_spoken_after_it() -> None:
    status, text = heard(FIRST, OURS)
    assert status == 200 and text.startswith(FIRST.decode())
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks(text)) == "The sun Sorry."


def test_half_a_tool_call_is_nothing_that_an_apology_ends() -> None:
    call = b'data: {"choices":[{"index":0,"delta":{"tool_calls": [{"index":0,"function":{"arguments":"{"}}]}}]}\n\n'
    _, text = heard(FIRST, call, OURS)
    assert "upstream_truncated" in text and "Sorry." not in text and '"finish_reason":"stop"' not in text


def test_a_whole_answer_apologises_whole() -> None:
    status, text = heard(OURS, asked_stream=False)
    (choice,) = json.loads(text)["choices"]
    assert (status, choice["message"]["content"], choice["finish_reason"]) == (200, "Sorry.", "stop")


@pytest.mark.parametrize(("failure", "apology"), [(THEIRS, "Sorry."), (OURS, None), (OURS, "")])
def test_other_failures_and_those_without_an_apology_are_failures(failure: SluiceError, apology: str | None) -> None:
    assert heard(failure, apology=apology) == (failure.status, failure.body().decode())
    status, text = heard(FIRST, failure, apology=apology)
    assert text == (FIRST + failure.event()).decode() and "[DONE]" not in text


@pytest.mark.parametrize("code", STATUS)
def test_only_what_is_not_the_callers_fault_is_excused(code: str) -> None:
    assert excusable(SluiceError(code, "")) is code.startswith(("upstream_", "proxy_", "policy_concurrency"))
    assert not excusable(SluiceError("word_of_the_upstream", ""))
