"""The last calls, for operators to look at: who answered, how long it took, what it cost; no prompts, no answers."""

from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from proxy.call import Call
from proxy.errors import metric_code

_KEPT: Final = 500


@dataclass(slots=True)
class History:
    """A ring of the calls that ended, newest last. Formatting waits until somebody looks."""

    _ended: deque[tuple[Call, float, datetime]] = field(default_factory=lambda: deque(maxlen=_KEPT))

    def note(self, call: Call, seconds: float) -> None:
        """A call ended after so many seconds. Its body and headers are let go."""
        call.body, call.fields, call.headers, call.credential = b"", {}, [], None
        self._ended.append((call, seconds, datetime.now(UTC)))

    def calls(self) -> list[dict[str, Any]]:
        """`[{id, time, door, route, upstream, model, status, code, attempts, tokens, cost, ms}]`, newest first."""
        return [_line(*ended) for ended in reversed(self._ended)]


def _line(call: Call, seconds: float, time: datetime) -> dict[str, Any]:
    trace = call.trace
    return {
        "id": call.id,
        "time": time.isoformat(timespec="milliseconds"),
        "door": call.door,
        "route": trace.route or None,
        "upstream": trace.upstream or None,
        "model": trace.model or call.model or None,
        "status": trace.status,
        "code": metric_code(trace.failure) if trace.failure else "ok",
        "attempts": list(trace.attempts),
        "tokens": {"input": trace.usage.input, "output": trace.usage.output, "cached": trace.usage.cached},
        "cost": trace.usage.cost,
        "ms": round(seconds * 1000, 1),
        "first_token_ms": round((trace.content_at - call.began) * 1000, 1) if trace.content_at else None,
        "overhead_ms": round(trace.overhead * 1000, 3) if trace.overhead is not None else None,
        "cache": trace.cache,
        "changes": list(trace.changes),
        "stream": call.stream,
        "tenant": call.tenant,
    }
