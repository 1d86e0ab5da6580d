"""Translates OpenAI's messages to Anthropic's (anthropic SDK 0.125.0, types/*_param.py)."""

import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from proxy.providers.messages import (
    PART,
    Data,
    Fields,
    cannot,
    data_url,
    ignored_in_message,
    image,
    mapping,
    messages,
    part_text,
    parts,
    plain,
    refuse,
    text,
    tool_calls,
)
from proxy.shapes import list_of

THOUGHTS: Final = {"thinking": ("thinking", "signature"), "redacted_thinking": ("data",)}
"""Types of thinking blocks, and the fields they need to be sent back."""

_TAKEN: Final[Mapping[str, tuple[str, ...]]] = {
    "assistant": ("refusal", "tool_calls", "reasoning", "reasoning_content", "thinking_blocks"),
    "tool": ("tool_call_id", "name"),
}
"""Role -> the fields of its messages that are translated besides the content."""
_PART: Final = PART | {"cache_control"}
_NOBODY: Final = "."  # the first user message, if a conversation begins with the assistant

_NOT_IN_IDS: Final = re.compile(r"[^a-zA-Z0-9_-]")  # ids of other providers may have dots and colons: a 400 here


@dataclass(slots=True)
class Conversation:
    """System text and messages in Anthropic's form: user and assistant turns that alternate, content in blocks."""

    system: list[Fields] = field(default_factory=list)
    turns: list[Fields] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)
    _ids: dict[str, str] = field(default_factory=dict)  # the client's call id -> the id sent, of the last such call
    _taken: set[str] = field(default_factory=set)  # all ids so far

    def add(self, role: str, blocks: list[Fields]) -> None:
        """Adds one message; consecutive messages of one role become one turn."""
        if not blocks:
            return
        if self.turns and self.turns[-1]["role"] == role:
            self.turns[-1]["content"] += blocks
        else:
            self.turns.append({"role": role, "content": blocks})

    def called(self, id: str) -> str:
        """A new call id: in the characters that Anthropic accepts, and unique in the conversation."""
        plain = found = _NOT_IN_IDS.sub("_", id)
        again = 1
        while found in self._taken:
            again += 1
            found = f"{plain}_{again}"
        if found != id:
            self.change("set tool_call_id")
        self._taken.add(found)
        self._ids[id] = found
        return found

    def answered(self, id: str) -> str:
        """The id of the call that a result belongs to: the last one with this original id."""
        return self._ids.get(id) or _NOT_IN_IDS.sub("_", id)

    def change(self, change: str) -> None:
        """Records a change once."""
        if change not in self.changes:
            self.changes.append(change)

    def close(self) -> None:
        """Anthropic's rules: a user turn first, tool results first in a turn, no trailing white space in a prefill."""
        if self.turns[0]["role"] == "assistant":
            self.turns.insert(0, {"role": "user", "content": [{"type": "text", "text": _NOBODY}]})
            self.change("add user")
        for turn in self.turns:
            if turn["role"] == "user" and len(turn["content"]) > 1:
                turn["content"].sort(key=lambda block: block["type"] != "tool_result")
        if self.prefilled and (last := self.turns[-1]["content"][-1])["type"] == "text":
            if (trimmed := last["text"].rstrip()) != last["text"]:  # trailing white space is refused there
                self.change("trim content")
                self.turns[-1]["content"][-1] = last | {"text": trimmed}

    @property
    def prefilled(self) -> bool:
        """Whether the answer continues an assistant message."""
        return bool(self.turns) and self.turns[-1]["role"] == "assistant"

    @property
    def unsigned(self) -> bool:
        """Whether there are tool results for calls whose thinking is lost: then no thinking by a budget is possible."""
        if len(self.turns) < 2 or self.turns[-1]["content"][0]["type"] != "tool_result":
            return False
        return self.turns[-2]["content"][0]["type"] not in THOUGHTS

    @property
    def tools(self) -> list[str]:
        """The tools that were called in it."""
        blocks = (block for turn in self.turns for block in turn["content"] if block["type"] == "tool_use")
        return list(dict.fromkeys(block["name"] for block in blocks))

    def system_field(self) -> str | list[Fields]:
        """One text, or blocks if a text has further fields (`cache_control`)."""
        if all(block.keys() == {"type", "text"} for block in self.system):
            return "\n\n".join(block["text"] for block in self.system)
        return self.system


def converse(fields: Fields) -> Conversation:
    """The whole conversation of a request."""
    found = Conversation()
    for place, message in messages(fields):
        role = message.get("role")
        found.changes += ignored_in_message(message, place, _TAKEN.get(str(role), ()), _PART)
        if role in ("system", "developer"):
            if found.turns:
                found.change("move system")
            found.system += _texts(message, place)
        elif role == "user":
            found.add("user", list(_blocks(message, place)))
        elif role == "assistant":
            found.add("assistant", list(_assistant(message, place, found)))
        elif role == "tool":
            found.add("user", [_result(message, place, found)])
        else:
            raise cannot(
                f"{place}.role", "This upstream accepts the roles system, developer, user, assistant and tool."
            )
    if not found.turns:
        raise cannot("messages", "This upstream needs a message that is not a system message.")
    found.close()
    return found


def _assistant(message: Fields, place: str, found: Conversation) -> Iterator[Fields]:
    """Signed thinking first, then text, then calls."""
    thoughts = message.get("thinking_blocks")
    kept = [kept for block in list_of(thoughts) if (kept := _thought(block))]
    if not kept and (thoughts or message.get("reasoning_content") or message.get("reasoning")):
        found.change("drop reasoning_content")  # not accepted without a signature
    yield from kept
    yield from _texts(message, place)
    for index, call in enumerate(tool_calls(message, place)):
        if not call.id:
            raise refuse(f"{place}.tool_calls[{index}].id", "A tool call needs an id.")
        yield {"type": "tool_use", "id": found.called(call.id), "name": call.name, "input": call.arguments}


def _thought(block: object) -> Fields | None:
    if not isinstance(block, dict) or not isinstance(kind := block.get("type"), str) or kind not in THOUGHTS:
        return None
    held = {name: block.get(name) for name in THOUGHTS[kind]}
    return {"type": kind, **held} if all(isinstance(value, str) for value in held.values()) else None


def _result(message: Fields, place: str, found: Conversation) -> Fields:
    if not (id := text(message.get("tool_call_id"), f"{place}.tool_call_id")):
        raise refuse(f"{place}.tool_call_id", "A tool result needs the id of its call.")
    result: Fields = {"type": "tool_result", "tool_use_id": found.answered(id)}
    blocks = list(_blocks(message, place))
    if all(block.keys() == {"type", "text"} for block in blocks):
        return result | {"content": plain(message, place)}
    return result | {"content": blocks}


def _texts(message: Fields, place: str) -> list[Fields]:
    if not isinstance(message.get("content"), str):
        plain(message, place)  # raises a 400 for anything but text
    return list(_blocks(message, place))


def _blocks(message: Fields, place: str) -> Iterator[Fields]:
    """Content as blocks. Blank texts are left out, since Anthropic refuses them."""
    content = message.get("content")
    if isinstance(content, str):
        if content.strip():
            yield {"type": "text", "text": content}
        return
    for there, part in parts(message, place):
        said = part_text(part, there)
        if said is not None and not said.strip():
            continue
        block = {"type": "text", "text": said} if said is not None else _attachment(part, there)
        yield block | ({"cache_control": part["cache_control"]} if part.get("cache_control") else {})


def _attachment(part: Fields, place: str) -> Fields:
    if part.get("type") == "image_url":
        return {"type": "image", "source": _image_source(image(part, place))}
    if part.get("type") == "file":
        return _document(mapping(part.get("file"), f"{place}.file"), f"{place}.file")
    raise cannot(place, f"Anthropic accepts text, images and files, not {part.get('type')!r}.")


def _image_source(shown: Data | str) -> Fields:
    if isinstance(shown, str):
        return {"type": "url", "url": shown}
    media_type = "image/jpeg" if shown.media_type == "image/jpg" else shown.media_type
    return {"type": "base64", "media_type": media_type, "data": shown.base64}


def _document(file: Fields, place: str) -> Fields:
    """A PDF or plain text by its data. File ids refer to files at OpenAI, so they are a 400."""
    given = file.get("file_data")
    held = data_url(given, f"{place}.file_data") if isinstance(given, str) else None
    if not isinstance(held, Data) or held.media_type not in ("application/pdf", "text/plain"):
        raise cannot(place, "Anthropic accepts files as data: URLs of application/pdf or text/plain only.")
    title = {"title": file["filename"]} if isinstance(file.get("filename"), str) else {}
    if held.media_type == "application/pdf":
        source = {"type": "base64", "media_type": held.media_type, "data": held.base64}
    else:
        try:
            written = b64decode(held.base64, validate=True).decode()
        except (Base64Error, UnicodeDecodeError):
            raise refuse(f"{place}.file_data", "This file is not UTF-8 text in base64.") from None
        source = {"type": "text", "media_type": held.media_type, "data": written}
    return {"type": "document", "source": source} | title
