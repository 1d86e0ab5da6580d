"""Counts and keeps server messages of Vapi for the admin page: types, ids and states, never spoken words."""

from collections import Counter, deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

_KINDS: Final = frozenset(
    "assistant-request tool-calls transfer-destination-request handoff-destination-request knowledge-base-request "
    "call.endpointing.request voice-request voice-input status-update end-of-call-report conversation-update "
    "speech-update transcript model-output user-interrupted hang transfer-update language-change-detected "
    "phone-call-control function-call assistant.started assistant.speechStarted call.deleted call.delete.failed "
    "chat.created chat.deleted session.created session.updated session.deleted".split()
)  # of server messages, as Vapi's API reference lists them
_FREQUENT: Final = frozenset(
    "conversation-update speech-update transcript model-output voice-input voice-request "
    "call.endpointing.request assistant.speechStarted refused".split()
)  # too frequent, or open to anybody: counted, but not listed
_KEPT: Final = 100
_LONGEST: Final = 120  # characters of an id or state


def kind_of(message_type: str) -> str:
    """The type as a metric label: one of Vapi's, or "other"."""
    kind = message_type.partition("[")[0]  # `transcript[transcriptType="final"]`
    return kind if kind in _KINDS else "other"


@dataclass(slots=True)
class VapiEvents:
    """A count per type, and the last events. Outlives reloads."""

    _counts: Counter[str] = field(default_factory=Counter)
    _last: deque[dict[str, str | None]] = field(default_factory=lambda: deque(maxlen=_KEPT))

    def note(self, kind: str, call: str | None, status: str) -> None:
        """Records an event; `call`: Vapi's id of the telephone call."""
        self._counts[kind] += 1
        if kind not in _FREQUENT:
            time = datetime.now(UTC).isoformat(timespec="milliseconds")
            shown = call[:_LONGEST] if call else None
            self._last.append({"time": time, "type": kind, "call": shown, "status": status[:_LONGEST]})

    def as_json(self) -> dict[str, Any]:
        """`{events: {TYPE: count}, last: [{time, type, call, status}]}`, newest first."""
        return {"events": dict(self._counts), "last": list(reversed(self._last))}
