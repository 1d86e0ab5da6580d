"""Settings by which servers continue an assistant message instead of beginning another."""

from collections.abc import Mapping
from typing import Final

from proxy.jsonedit import put
from proxy.jsonspans import Path
from proxy.providers.contract import Order
from proxy.providers.messages import fields_of
from proxy.shapes import object_of

PREFIX: Final = {"messages.{last}.prefix": True}
"""For Mistral and DeepSeek (beta address): a field of the message itself."""
OPEN: Final = {"continue_final_message": True, "add_generation_prompt": False}
"""For vLLM, which would otherwise close the message and begin a new one. By path in the body."""


def leave_open(order: Order, body: bytes, settings: Mapping[str, bool]) -> tuple[bytes, list[str]]:
    """The order's `body` with `settings` that the client left out, and the changes to report.

    Unchanged if its last message is not the assistant's, or the target has no `prefill`.
    """
    if not settings or not order.target.prefills:
        return body, []
    messages = fields_of(order).get("messages")
    if not isinstance(messages, list) or object_of(messages[-1] if messages else None).get("role") != "assistant":
        return body, []
    last, changes = len(messages) - 1, []
    for path, value in settings.items():
        edited = put(body, Path.of(path.format(last=last)), b"true" if value else b"false", over=False)
        if edited is not body:
            body = edited
            changes.append(f"set {path.rpartition('.')[2]}")
    return body, changes
