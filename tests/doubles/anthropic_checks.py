"""What Anthropic's Messages API refuses, with its texts (texts as its clients quote them)."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

FIELDS = frozenset(
    "model max_tokens messages system stop_sequences stream tools tool_choice thinking output_config metadata "
    "service_tier cache_control container context_management mcp_servers".split()
)
SAMPLING = frozenset(("temperature", "top_k", "top_p"))  # until version 2026-10-21
BLOCKS = {
    "user": frozenset(("text", "image", "document", "tool_result", "search_result")),
    "assistant": frozenset(("text", "tool_use", "thinking", "redacted_thinking", "server_tool_use")),
}
Body = Mapping[str, Any]


def wrong(body: Body, version: str) -> str:
    """The text of a 400 for this request, or ""."""
    return next(_faults(body, version), "")


def _faults(body: Body, version: str) -> Iterator[str]:
    allowed = FIELDS if version >= "2026-10-21" else FIELDS | SAMPLING
    yield from (f"{name}: Extra inputs are not permitted" for name in sorted(body.keys() - allowed))
    yield from (f"{name}: Field required" for name in ("max_tokens", "messages") if name not in body)
    yield from _numbers(body)
    yield from _messages(body["messages"])
    yield from _tools(body)


def _numbers(body: Body) -> Iterator[str]:
    limit = body["max_tokens"]
    if not isinstance(limit, int) or isinstance(limit, bool):
        yield "max_tokens: Input should be a valid integer"
    elif limit < 1:
        yield "max_tokens: Input should be greater than or equal to 1"
    if not 0 <= (body.get("temperature") or 0) <= 1:
        yield "temperature: range: 0..1"
    if body.get("temperature") is not None and body.get("top_p") is not None:
        yield "`temperature` and `top_p` cannot both be specified for this model. Please use only one."
    if any(not text.strip() for text in body.get("stop_sequences") or ()):
        yield "stop_sequences: each stop sequence must contain non-whitespace"
    thinking = body.get("thinking") or {}
    if thinking.get("type") == "enabled":
        if thinking.get("budget_tokens", 0) < 1024:
            yield "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024"
        if thinking["budget_tokens"] >= limit:
            yield "`max_tokens` must be greater than `thinking.budget_tokens`."
        if body.get("temperature") not in (None, 1):
            yield "`temperature` may only be set to 1 when thinking is enabled."


def _messages(messages: object) -> Iterator[str]:
    if not isinstance(messages, list):
        yield "messages: Input should be a valid list"
        return
    if not messages:
        yield "messages: at least one message is required"
    for at, message in enumerate(messages):
        role = message.get("role")
        if role == "system":
            yield (
                'messages: Unexpected role "system". The Messages API accepts a top-level `system` parameter, '
                'not "system" as an input message role.'
            )
        if role not in BLOCKS:
            yield f"messages.{at}.role: Input should be 'user' or 'assistant'"
        yield from _blocks(at, message)
    if messages and messages[0]["role"] != "user":
        yield 'messages: first message must use the "user" role'
    yield from _ids(messages)
    yield from _results(merged(messages))
    last = blocks(messages[-1])[-1] if messages and blocks(messages[-1]) else {}
    if messages and messages[-1]["role"] == "assistant" and str(last.get("text", "")).endswith((" ", "\n", "\t")):
        yield "messages: final assistant content cannot end with trailing whitespace"


def _blocks(at: int, message: Body) -> Iterator[str]:
    content = message.get("content")
    if not isinstance(content, str | list):
        yield f"messages.{at}.content: Input should be a valid string or list"
        return
    for nth, block in enumerate(blocks(message)):
        kind = block.get("type")
        if kind not in BLOCKS[message["role"]]:
            tag = f"Input tag '{kind}' found using 'type' does not match any of the expected tags"
            yield f"messages.{at}.content.{nth}: {tag}"
        if kind == "text" and not block.get("text"):
            yield "messages: text content blocks must be non-empty"
        if kind == "tool_use" and not isinstance(block.get("input"), dict):
            yield f"messages.{at}.content.{nth}.tool_use.input: Input should be a valid dictionary"
        if kind == "thinking" and not block.get("signature"):
            yield f"messages.{at}.content.{nth}.thinking.signature: Field required"


def _ids(messages: Sequence[Body]) -> Iterator[str]:
    """Ids of letters, digits, dash and underscore; none of them twice in a conversation."""
    seen: set[str] = set()
    for at, message in enumerate(messages):
        for nth, block in enumerate(blocks(message)):
            name = {"tool_use": "id", "tool_result": "tool_use_id"}.get(block["type"])
            if name and not re.fullmatch("[a-zA-Z0-9_-]+", block[name]):
                place = f"messages.{at}.content.{nth}.{block['type']}.{name}"
                yield f"{place}: String should match pattern '^[a-zA-Z0-9_-]+$'"
            if name == "id" and block["id"] in seen:
                yield f"messages.{at}.content.{nth}: `tool_use` ids must be unique"
            seen |= {block["id"]} if name == "id" else set()


def _results(messages: Sequence[Body]) -> Iterator[str]:
    """Every tool use is answered in the very next message, and only those are."""
    asked: set[str] = set()
    for at, message in enumerate(messages):
        answered = {block["tool_use_id"] for block in message["content"] if block["type"] == "tool_result"}
        if missing := sorted(asked - answered):
            yield (
                f"messages.{at - 1}: `tool_use` ids were found without `tool_result` blocks immediately after: "
                f"{', '.join(missing)}. Each `tool_use` block must have a corresponding `tool_result` block in the "
                "next message."
            )
        if foreign := sorted(answered - asked):
            yield (
                f"messages.{at}.content.0: unexpected `tool_use_id` found in `tool_result` blocks: {foreign[0]}. Each "
                "`tool_result` block must have a corresponding `tool_use` block in the previous message."
            )
        asked = {block["id"] for block in message["content"] if block["type"] == "tool_use"}
    if asked:
        yield f"messages.{len(messages) - 1}: `tool_use` ids were found without `tool_result` blocks immediately after"


def _tools(body: Body) -> Iterator[str]:
    names = [tool.get("name") for tool in body.get("tools") or ()]
    for at, tool in enumerate(body.get("tools") or ()):
        yield from (
            f"tools.{at}.custom.{name}: Field required" for name in ("name", "input_schema") if name not in tool
        )
    for at, tool in enumerate(body.get("tools") or ()):
        if "type" not in tool.get("input_schema", {"type"}):
            yield f"tools.{at}.custom.input_schema.type: Field required"
    if not names and any(
        block["type"] in ("tool_use", "tool_result") for message in body["messages"] for block in blocks(message)
    ):
        yield "Requests which include `tool_use` or `tool_result` blocks must define tools."
    if len(set(names)) < len(names):
        yield "tools: Tool names must be unique."
    choice = body.get("tool_choice")
    if choice is None:
        return
    if not isinstance(choice, dict) or choice.get("type") not in ("auto", "any", "tool", "none"):
        yield "tool_choice: Input should be a valid dictionary or object to extract fields from"
    elif not names and choice["type"] != "none":
        yield "tool_choice may only be specified while providing tools."
    elif choice["type"] == "tool" and choice.get("name") not in names:
        yield f"Tool '{choice.get('name')}' not found in provided tools"


def blocks(message: Body) -> list[dict[str, Any]]:
    """A message's content as blocks."""
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def merged(messages: Sequence[Body]) -> list[dict[str, Any]]:
    """The messages with consecutive ones of one role joined, as the API does."""
    found: list[dict[str, Any]] = []
    for message in messages:
        if found and found[-1]["role"] == message["role"]:
            found[-1]["content"] = [*found[-1]["content"], *blocks(message)]
        else:
            found.append({"role": message["role"], "content": list(blocks(message))})
    return found
