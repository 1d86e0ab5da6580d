"""Distinguishes a client that has left from one that only closed its sending side: both cause an end of input.

After a harmless probe, a client that is gone answers with a reset, which the kernel records in the socket's state. That
state is polled, since an event loop that has read the end of input no longer watches the socket.
"""

import asyncio
from collections.abc import Callable, Iterator
from itertools import chain, repeat
from typing import Final

from proxy.serving.kernel import ENDED, GONE, tcp_state

PAUSED: Final = 0.1
"""Seconds between two checks while reading is paused, when an end of input would go unnoticed."""
PROBED: Final = (0.01, 0.04, 0.1)
"""Seconds from a probe to the first check, and between the next; then one per second."""


class Leaving:
    """Watches one connection, and aborts it once its client is gone.

    `probe` writes bytes that a waiting client skips.
    """

    __slots__ = ("_transport", "_loop", "_probe", "_timer", "_delays", "_ended")

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, probe: Callable[[], None]
    ) -> None:
        self._transport = transport
        self._loop = loop
        self._probe = probe
        self._timer: asyncio.TimerHandle | None = None
        self._delays: Iterator[float] = repeat(PAUSED)
        self._ended = False

    def ended(self) -> None:
        """The client's input has ended while answers are due: probes once, then polls at growing intervals."""
        if self._ended:
            return
        self._ended = True
        self._delays = chain(PROBED, repeat(1.0))
        self._probe()
        self._look_later()

    def paused(self) -> None:
        """Reading is paused: polls whether the input has ended behind the unread bytes."""
        if self._timer is None:
            self._look_later()

    def resumed(self) -> None:
        """Reading continues, and will see the end of input itself."""
        if not self._ended:
            self.stop()

    def stop(self) -> None:
        """No answer is due any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_later(self) -> None:
        self.stop()
        self._timer = self._loop.call_later(next(self._delays), self._look)

    def _look(self) -> None:
        self._timer = None
        if self._transport.is_closing():
            return
        state = tcp_state(self._transport)
        if state == GONE:
            self._transport.abort()
        elif state == ENDED and not self._ended:
            self.ended()
        else:
            if state is None and self._ended:
                self._probe()  # without TCP state, the second write to a client that is gone fails
            self._look_later()
