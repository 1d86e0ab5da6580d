"""Tells a client that has left from one that only closed its sending side: both look like an end of input.

After one harmless probe a client that is gone answers with a reset, which the kernel keeps in the socket's state. That
state is polled, since an event loop that has read the end of input no longer looks at the socket.
"""

import asyncio
import socket
import sys
from collections.abc import Callable, Iterator
from itertools import chain, repeat
from typing import Final

GONE: Final = 7
"""TCP_CLOSE, as the first byte of Linux's `struct tcp_info` (tcp_states.h)."""
ENDED: Final = 8
"""TCP_CLOSE_WAIT: the other side has sent its FIN, and may still read."""
PAUSED: Final = 0.1
"""Seconds between two looks while our reading is paused, when an end of input would go unnoticed."""


def tcp_state(transport: asyncio.BaseTransport) -> int | None:
    """The connection's TCP state by Linux's numbers; None where the system does not tell."""
    if sys.platform != "linux":
        return None
    try:
        info: bytes = transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
    except OSError:
        return None
    return info[0]


class Leaving:
    """Watches one connection. `probe` writes something that a waiting client skips; `gone` is called once."""

    __slots__ = ("_transport", "_probe", "_gone", "_loop", "_timer", "_delays", "_ended")

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
        """The client's input has ended while it has answers to come: probe once, then look, soon and ever more rarely."""
        self._ended = True
        self._probe()
        self._delays = chain((0.01, 0.04, 0.1), repeat(1.0))
        self._later()

    def paused(self) -> None:
        """Our reading is paused: look now and then whether the input has ended behind what was not read."""
        if self._timer is None:
            self._later()

    def resumed(self) -> None:
        """Our reading goes on and will see the end by itself."""
        if not self._ended:
            self.stop()

    def stop(self) -> None:
        """Nothing is in flight any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _later(self) -> None:
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
                self._probe()  # without the state, a second write to a client that is gone fails
            self._later()
