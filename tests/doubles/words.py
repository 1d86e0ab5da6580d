"""What a double says: the same words for the same question, whoever is asked, so that answers can be compared."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

WORDS = (
    "the owl reads a river of small stones while morning light crosses naïve café walls and 日本 🦉 "
    "nobody counts seven quiet engines under “quoted” skies where \\slashes\\ rest"
).split()
LENGTH = 60  # tokens of an answer nobody wrote


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool; `arguments` is JSON text."""

    name: str
    arguments: str = "{}"
    id: str = ""

    def named(self, at: int) -> "ToolCall":
        """The same with an id, made from its place among its siblings."""
        seed = hashlib.sha256(f"{at}{self.name}{self.arguments}".encode()).hexdigest()
        return self if self.id else replace(self, id=f"call_{seed[:8]}")


@dataclass(frozen=True, slots=True)
class Said:
    """One answer of a model, in no provider's dialect. `finish` is one of OpenAI's finish reasons."""

    text: str = ""
    tools: tuple[ToolCall, ...] = ()
    finish: str = ""  # "": stop, or tool_calls where there are tools
    reasoning: str = ""
    refusal: str = ""

    @property
    def reason(self) -> str:
        return self.finish or ("tool_calls" if self.tools else "stop")

    @property
    def tokens(self) -> int:
        """Tokens of the whole answer, by the double's own count."""
        spoken = len(pieces(self.text)) + len(pieces(self.reasoning)) + len(pieces(self.refusal))
        return spoken + sum(count(call.name + call.arguments) for call in self.tools)


def pieces(text: str) -> list[str]:
    """The text cut into the tokens that a stream carries: words with the space before them."""
    found: list[str] = []
    for at, word in enumerate(text.split(" ")):
        found.append(word if at == 0 else " " + word)
    return found if text else []


def derived(question: str, length: int = LENGTH) -> str:
    """`length` words that depend on the question alone."""
    seed = int.from_bytes(hashlib.sha256(question.encode()).digest()[:8], "big")
    chosen = [WORDS[(seed >> (at % 16)) * (at + 7) % len(WORDS)] for at in range(length - 1)]
    return " ".join((f"[{seed % 10_000:04}]", *chosen))


def count(text: str) -> int:
    """Tokens of a prompt's text: a quarter of its characters, at least one."""
    return max(1, len(text) // 4)


def plain(content: object) -> str:
    """The text of a message's content: a string, or the text parts of a list."""
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence):
        return "".join(str(part.get("text") or "") for part in content if isinstance(part, Mapping))
    return ""


def question(messages: Sequence[Mapping[str, Any]]) -> str:
    """The last thing the user said."""
    return next((plain(said.get("content")) for said in reversed(messages) if said.get("role") == "user"), "")


def prompt_tokens(messages: Sequence[Mapping[str, Any]]) -> int:
    """Tokens of a conversation: three for each message besides its text."""
    return sum(3 + count(plain(said.get("content"))) for said in messages)


def prefilled(messages: Sequence[Mapping[str, Any]], text: str) -> str:
    """What is left to say where the last message is the assistant's and begins `text`; else all of it."""
    if messages and messages[-1].get("role") == "assistant":
        begun = plain(messages[-1].get("content"))
        if begun and text.startswith(begun):
            return text[len(begun) :]
    return text


def limited(said: Said, limit: int | None) -> Said:
    """The same cut to `limit` tokens of text, with finish "length" where that cut something."""
    words = pieces(said.text)
    if limit is None or len(words) <= limit:
        return said
    return replace(said, text="".join(words[:limit]), finish="length")


def tool_call(tools: Sequence[Mapping[str, Any]], choice: object) -> ToolCall | None:
    """The call a model makes that is made to: of the named function, or of the first where any is required."""
    functions = [tool["function"] for tool in tools if isinstance(tool.get("function"), Mapping)]
    if isinstance(choice, Mapping):
        name = str(choice.get("function", choice).get("name"))
    elif choice == "required" and functions:
        name = str(functions[0]["name"])
    else:
        return None
    schema = next((function.get("parameters") for function in functions if function["name"] == name), None) or {}
    values = {key: key for key in schema.get("properties", {})}
    return ToolCall(name, json.dumps(values)).named(0)
