"""A concurrency limit with a bounded queue: more calls wait, clients in turn, and the rest is refused."""

import asyncio
from collections import OrderedDict, deque
from dataclasses import dataclass, field

from proxy.errors import SluiceError

_WAITING_PER_PLACE = 4


@dataclass(slots=True)
class Gate:
    """At most `places` calls at a time; up to four times as many wait, for at most `patience` seconds each."""

    upstream: str
    places: int
    patience: float
    inside: int = 0
    _waiting: OrderedDict[str, deque[asyncio.Future[None]]] = field(default_factory=OrderedDict)
    _queued: int = 0

    async def enter(self, tenant: str) -> None:
        """Takes a place, to be given back by `leave`. Raises policy_concurrency if none becomes free in time."""
        if self.inside < self.places and not self._queued:
            self.inside += 1
            return
        if self._queued >= self.places * _WAITING_PER_PLACE:
            raise self._full("and its queue is full")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(tenant, deque()).append(turn)
        self._queued += 1
        try:
            async with asyncio.timeout(self.patience):
                await turn
        except TimeoutError:
            self._give_up(tenant, turn)
            raise self._full(f"and no place came free in {self.patience:g} s") from None
        except asyncio.CancelledError:
            self._give_up(tenant, turn)
            raise

    def leave(self) -> None:
        """Gives the place to the next waiting call: clients take turns, each in its own order."""
        while self._waiting:
            tenant, line = self._waiting.popitem(last=False)
            turn = line.popleft()
            if line:
                self._waiting[tenant] = line
            self._queued -= 1
            if not turn.done():
                turn.set_result(None)
                return
        self.inside -= 1

    def _give_up(self, tenant: str, turn: asyncio.Future[None]) -> None:
        if turn.done() and not turn.cancelled():
            self.leave()  # the place was assigned just as the wait ended
            return
        line = self._waiting.get(tenant)
        if line is not None and turn in line:
            line.remove(turn)
            self._queued -= 1
            if not line:
                del self._waiting[tenant]

    def _full(self, why: str) -> SluiceError:
        return SluiceError(
            "policy_concurrency",
            f"The upstream {self.upstream} is busy with {self.places} calls (max_in_flight), {why}.",
            again="next",
            retry_after=max(1.0, self.patience / 2),
        )
