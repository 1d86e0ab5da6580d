"""The text of every fault upstream: it depends on the question alone, so that all targets answer alike."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

TOKENS: Final = 60  # tokens of every answer
_WORDS: Final = (
    "the owl reads a river of small stones while morning light crosses naïve café walls and 日本 🦉 nobody counts "
    "seven quiet engines under “quoted” skies where \\slashes\\ rest"
).split()


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer, independent of dialects. `tokens`: those still to be sent, `counted`: reported input tokens."""

    model: str
    tokens: tuple[str, ...]
    counted: int
    usage: bool  # the request asked for usage in the stream

    @property
    def text(self) -> str:
        """The tokens as one text."""
        return "".join(self.tokens)


def tokens_for(question: str) -> tuple[str, ...]:
    """The correct answer to a question, token by token."""
    digest = hashlib.sha256(question.encode()).digest()
    words = [_WORDS[(digest[at % 32] + at * 7) % len(_WORDS)] for at in range(TOKENS - 1)]
    return (f"[{digest.hex()[:6]}]", *(" " + word for word in words))


def left_of(tokens: tuple[str, ...], begun: str) -> tuple[str, ...]:
    """The tokens still to be sent after `begun`; all of them if the answer does not begin like that."""
    text = "".join(tokens)
    if not begun or not text.startswith(begun):
        return tokens
    rest, at = [], 0
    for token in tokens:
        at += len(token)
        if at > len(begun):
            rest.append(token[-(at - len(begun)) :] if at - len(begun) < len(token) else token)
    return tuple(rest)


def question_in(messages: Sequence[Mapping[str, Any]]) -> str:
    """The last user message."""
    return next((plain(each.get("content")) for each in reversed(messages) if each.get("role") == "user"), "")


def handed_over(messages: Sequence[Mapping[str, Any]]) -> str:
    """The beginning of an answer that is to be continued; "": there is none."""
    last = messages[-1] if messages else {}
    return plain(last.get("content")) if last.get("role") == "assistant" else ""


def plain(content: object) -> str:
    """The text of a message's content: a string, or a list with text parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence):
        return "".join(str(part.get("text") or "") for part in content if isinstance(part, Mapping))
    return ""
