"""Answers Vapi's server messages: which assistant picks up, what a tool returned, and `{}` for notifications.

Shapes are those of docs.vapi.ai, "Server events". Every answer has status 200: Vapi speaks the text of an `error` in
it.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from proxy.doors.vapi_calls import session_of
from proxy.doors.vapi_events import VapiEvents, kind_of
from proxy.doors.vapi_tools import Tool, function_result, results, tool_calls
from proxy.errors import SluiceError

_WHOLE_REPLIES: Final = frozenset(
    "assistantId assistant squadId squad workflowId workflow destination error".split()
)  # keys of an assistant-request's answer; anything else is the assistant itself
_NO_ASSISTANT: Final = "I am sorry, there is no assistant here to take your call."
_NO_DESTINATION: Final = "No destination is configured for transfers."

log = logging.getLogger("sluice")


@dataclass(frozen=True, slots=True)
class Webhook:
    """The answers of one configuration. `count` is called with each message type, from a closed list."""

    assistant: Mapping[str, Any] | None
    tools: Mapping[str, Tool]
    events: VapiEvents
    count: Callable[[str], None]

    async def answer(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to `{"message": {"type", …}}`. Raises client_invalid_request for anything else."""
        message = body.get("message")
        if not isinstance(message, dict) or not isinstance(message.get("type"), str):
            raise SluiceError(
                "client_invalid_request",
                "The body must be one of Vapi's server messages, with a type.",
                param="message",
            )
        kind = kind_of(message["type"])
        self.count(kind)
        call_id = session_of(message)
        reply = await self._reply(kind, message, call_id)
        self.events.note(kind, call_id, _status(message, reply))
        return reply

    def refused(self, failure: SluiceError) -> None:
        """Counts and logs a refused message: Vapi shows its operators little about it."""
        self.count("refused")
        self.events.note("refused", None, "")
        log.warning("vapi webhook refused: %s", failure.message)

    async def _reply(self, kind: str, message: Mapping[str, Any], call_id: str | None) -> dict[str, Any]:
        match kind:
            case "assistant-request":
                return self._picked_up()
            case "tool-calls":
                return {"results": await results(tool_calls(message), self.tools, call_id)}
            case "function-call":  # the older form of tool calls, without ids
                return await function_result(message, self.tools, call_id)
            case "transfer-destination-request" | "handoff-destination-request":
                destination = (self.assistant or {}).get("destination")
                return {"error": _NO_DESTINATION} if destination is None else {"destination": destination}
            case "knowledge-base-request":
                return {"documents": []}
            case _:
                return {}

    def _picked_up(self) -> dict[str, Any]:
        if not self.assistant:
            return {"error": _NO_ASSISTANT}
        # A destination beside an assistant is for its transfers: in this answer Vapi would prefer it to the assistant.
        found = {key: value for key, value in self.assistant.items() if key != "destination"} or dict(self.assistant)
        return {"assistant": found} if _WHOLE_REPLIES.isdisjoint(found) else found


def _status(message: Mapping[str, Any], reply: Mapping[str, Any]) -> str:
    """What the message says about the state of its call, else whether it could be answered."""
    for name in ("endedReason", "status"):
        if isinstance(said := message.get(name), str) and said:
            return said
    failed = "error" in reply or any("error" in result for result in reply.get("results", ()))
    return "error" if failed else "ok"
