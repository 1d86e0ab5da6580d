"""Messages as Mistral takes them: what its schema does not know is a 422, and ids of tool calls have nine letters."""

import re
from hashlib import sha256
from typing import Any, Final

_ID: Final = re.compile("[a-zA-Z0-9]{9}")
_FOREIGN: Final = frozenset(
    "name refusal annotations reasoning reasoning_content reasoning_details thinking_blocks cache_control".split()
)
"""Members that other vendors have in messages, or in the answers that clients send back; null is refused as well."""
_EMPTY: Final = frozenset({"function_call", "audio"})  # the same, where they hold nothing


def fitted(messages: list[Any]) -> tuple[list[Any], list[str]]:
    """The messages with what Mistral refuses left out or exchanged, and the changes to report."""
    changes: dict[str, None] = {}  # each once, in their order
    return [_fitted(message, changes) if isinstance(message, dict) else message for message in messages], list(changes)


def _fitted(message: dict[str, Any], changes: dict[str, None]) -> dict[str, Any]:
    found = {}
    for name, value in message.items():
        if name in _FOREIGN and not (name == "name" and message.get("role") == "tool") or name in _EMPTY and not value:
            changes[f"drop {name}"] = None
        elif name == "tool_call_id":
            found[name] = _id(value, changes)
        elif name == "tool_calls" and isinstance(value, list):
            found[name] = [_call(call, changes) for call in value]
        else:
            found[name] = value
    if message.get("role") == "assistant" and not message.get("content") and message.get("refusal"):
        found["content"] = message["refusal"]  # it is what was said
    return found


def _call(call: Any, changes: dict[str, None]) -> Any:
    return call | {"id": _id(call["id"], changes)} if isinstance(call, dict) and "id" in call else call


def _id(id: Any, changes: dict[str, None]) -> Any:
    """An id of Mistral's kind, the same for the same one: a call and its result stay together."""
    if not isinstance(id, str) or _ID.fullmatch(id):
        return id
    changes["set tool_call_id"] = None
    return sha256(id.encode(errors="replace")).hexdigest()[:9]
