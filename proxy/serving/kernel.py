"""Connection state known to the kernel but not to the event loop."""

import asyncio
import fcntl
import socket
import sys
import termios
from typing import Final

GONE: Final = 7
"""TCP_CLOSE (Linux, tcp_states.h): the peer has reset the connection."""
ENDED: Final = 8
"""TCP_CLOSE_WAIT: the peer has sent its FIN, and may still read."""


def tcp_state(transport: asyncio.BaseTransport) -> int | None:
    """The TCP state by Linux's numbers, the first byte of its `struct tcp_info`; None on other systems."""
    if sys.platform != "linux":
        return None
    try:
        info: bytes = transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
    except OSError:
        return None
    return info[0]


def unsent(transport: asyncio.WriteTransport) -> int:
    """Bytes written that the peer has not taken: in our buffer and, on Linux, in the kernel's (SIOCOUTQ)."""
    waiting = transport.get_write_buffer_size()
    if sys.platform != "linux":
        return waiting
    try:
        queued = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
    except OSError:
        return waiting
    return waiting + int.from_bytes(queued, sys.byteorder)
