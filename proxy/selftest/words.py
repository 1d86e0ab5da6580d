"""What every fault upstream says: words that depend on the question alone, so that all targets answer alike."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

TOKENS: Final = 60  # of every answer
_WORDS: Final = (
    "the owl reads a river of small stones while morning light crosses naïve café walls and 日本 🦉 nobody counts "
    "seven quiet engines under “quoted” skies where \\slashes\\ rest"
).split()


@dataclass(frozen=True, slots=True)
class Said:
    """One answer in no provider's dialect. `tokens`: what is still to be said, `counted`: input tokens as reported."""

    model: str
    tokens: tuple[str, ...]
    counted: int
    usage: bool  # the caller of the upstream asked for it in the stream

    @property
    def text(self) -> str:
        """The tokens as one text."""
        return "".join(self.tokens)


def tokens_for(question: str) -> tuple[str, ...]:
    """The right answer to a question, token by token."""
    digest = hashlib.sha256(question.encode()).digest()
    words = [_WORDS[(digest[at % 32] + at * 7) % len(_WORDS)] for at in range(TOKENS - 1)]
    return (f"[{digest.hex()[:6]}]", *(" " + word for word in words))


def left_of(tokens: tuple[str, ...], begun: str) -> tuple[str, ...]:
    """What is left to say by one who is handed `begun`; everything, where that is not how the answer begins."""
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
    """The last thing the user said."""
    return next((plain(each.get("content")) for each in reversed(messages) if each.get("role") == "user"), "")


def handed_over(messages: Sequence[Mapping[str, Any]]) -> str:
    """The beginning of an answer that is to be gone on with; "": there is none."""
    last = messages[-1] if messages else {}
    return plain(last.get("content")) if last.get("role") == "assistant" else ""


def plain(content: object) -> str:
    """The text of a message's content: a string, or a list with text parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence):
        return "".join(str(part.get("text") or "") for part in content if isinstance(part, Mapping))
    return ""
