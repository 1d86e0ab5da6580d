"""Messages as a strict server takes them, which refuses what other vendors' answers hold when they are sent back."""

import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

THOUGHTS: Final = frozenset({"reasoning_content", "reasoning_details", "thinking_blocks"})
ANSWERS: Final = frozenset({"refusal", "annotations", "audio", "function_call"})
ECHOED: Final = THOUGHTS | ANSWERS | {"name", "reasoning", "cache_control"}
"""Members of messages, most of them of answers that clients send back."""

CALLS: Final = frozenset({"id", "type", "function"})
"""Members of OpenAI's calls."""

_OF_FUNCTIONS: Final = frozenset({"name", "arguments"})
_OF_RESULTS: Final = frozenset({"name"})  # stays with a tool's result
_TELLING: Final = frozenset({"function_call", "audio"})  # where they hold something, no answer may be without them


@dataclass(frozen=True, slots=True)
class Fitting:
    """What one server refuses, each with a 4xx."""

    drop: frozenset[str] = frozenset()  # members, null as well
    calls: frozenset[str] | None = None  # the members of calls that it knows; None: it takes any
    developer: bool = True  # whether it knows this role beside system
    ids: re.Pattern[str] | None = None  # of tool calls; others are exchanged for nine letters and digits

    def fitted(self, messages: list[Any]) -> tuple[list[Any], list[str]]:
        """The messages with what is refused left out or exchanged, and the changes to report."""
        changes: dict[str, None] = {}  # each once, in their order
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
            found["content"] = message["refusal"]  # it is what was said
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
        """An id that the server takes, the same for the same one: a call and its result stay together."""
        if self.ids is None or not isinstance(id, str) or self.ids.fullmatch(id):
            return id
        changes["set tool_call_id"] = None
        return sha256(id.encode(errors="replace")).hexdigest()[:9]


def _only(fields: dict[str, Any], taken: frozenset[str], under: str, changes: dict[str, None]) -> dict[str, Any]:
    """The members that are taken; the others are reported."""
    found = {}
    for name, value in fields.items():
        if name in taken:
            found[name] = value
        else:
            changes[f"drop {under}{name}"] = None
    return found
