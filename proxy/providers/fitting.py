"""Adapts messages to a strict server, which refuses fields from other vendors' answers when they are sent back."""

import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

THOUGHTS: Final = frozenset({"reasoning_content", "reasoning_details", "thinking_blocks"})
ANSWERS: Final = frozenset({"refusal", "annotations", "audio", "function_call"})
ECHOED: Final = THOUGHTS | ANSWERS | {"name", "reasoning", "cache_control"}
"""Fields of messages, most of them from answers that clients send back."""

CALLS: Final = frozenset({"id", "type", "function"})
"""Fields of OpenAI's tool calls."""

_OF_FUNCTIONS: Final = frozenset({"name", "arguments"})
_OF_RESULTS: Final = frozenset({"name"})  # kept in tool results
_TELLING: Final = frozenset({"function_call", "audio"})  # where they hold something, no answer may be without them


@dataclass(frozen=True, slots=True)
class Fitting:
    """What one server refuses, each with a 4xx."""

    drop: frozenset[str] = frozenset()  # fields, even if null
    calls: frozenset[str] | None = None  # the fields of calls that it knows; None: it accepts any
    developer: bool = True  # whether it knows this role beside system
    ids: re.Pattern[str] | None = None  # of tool calls; others are replaced by nine letters and digits

    def fitted(self, messages: list[Any]) -> tuple[list[Any], list[str]]:
        """The messages with refused fields left out or replaced, and the changes to report."""
        changes: dict[str, None] = {}  # each once, in order
        fitted = [self._message(said, changes) if isinstance(said, dict) else said for said in messages]
        return fitted, list(changes)

    def _message(self, message: dict[str, Any], changes: dict[str, None]) -> dict[str, Any]:
        role, found = message.get("role"), {}
        drop = self.drop - _OF_RESULTS if role == "tool" else self.drop
        for name, value in message.items():
            if name in drop and not (name in _TELLING and value):
                changes[f"drop {name}"] = None
            elif name == "tool_call_id":
                found[name] = self._id(value, changes)
            elif name == "tool_calls" and isinstance(value, list):
                found[name] = [self._call(call, changes) for call in value]
            else:
                found[name] = value
        if role == "developer" and not self.developer:
            changes["set role"] = None
            found["role"] = "system"
        if role == "assistant" and "refusal" in drop and not message.get("content") and message.get("refusal"):
            found["content"] = message["refusal"]  # the refusal is the text of the answer
        return found

    def _call(self, call: Any, changes: dict[str, None]) -> Any:
        if not isinstance(call, dict):
            return call
        found = call | {"id": self._id(call["id"], changes)} if "id" in call else call
        if self.calls is not None:
            found = _only(found, self.calls, "tool_calls.", changes)
            if isinstance(function := found.get("function"), dict):
                found = found | {"function": _only(function, _OF_FUNCTIONS, "tool_calls.function.", changes)}
        return found

    def _id(self, id: Any, changes: dict[str, None]) -> Any:
        """An id that the server accepts, always the same for the same id: a call and its result stay together."""
        if self.ids is None or not isinstance(id, str) or self.ids.fullmatch(id):
            return id
        changes["set tool_call_id"] = None
        return sha256(id.encode(errors="replace")).hexdigest()[:9]


def _only(fields: dict[str, Any], taken: frozenset[str], under: str, changes: dict[str, None]) -> dict[str, Any]:
    """The accepted fields; the others are reported as changes."""
    found = {}
    for name, value in fields.items():
        if name in taken:
            found[name] = value
        else:
            changes[f"drop {under}{name}"] = None
    return found
