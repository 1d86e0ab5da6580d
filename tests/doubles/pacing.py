"""Time between the events of a double's streams, so that many of them are under way at once."""

from dataclasses import dataclass

from tests.doubles.faults import Fine
from tests.doubles.server import Double, Fault
from tests.doubles.wire import Act, Answer, Received, Wait


@dataclass(frozen=True, slots=True)
class Paced:
    """Every event of a stream comes `each` seconds after the one before; `fault`: what is wrong besides."""

    each: float
    fault: Fault = Fine()

    def __call__(self, double: Double, request: Received) -> Answer:
        answer = self.fault(double, request)
        if answer.framing != "chunked":
            return answer
        acts: list[Act] = []
        for act in answer.acts:
            acts += (Wait(self.each), act) if isinstance(act, bytes) else (act,)
        return answer.with_acts(*acts)
