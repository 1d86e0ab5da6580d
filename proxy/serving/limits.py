"""Limits on the size of requests and on the time that clients may take."""

from dataclasses import dataclass
from typing import Final

MAX_LINES: Final = 100
"""Header lines of one request."""
MAX_HEAD: Final = 64 * 1024
"""Bytes of one request head, and of the framing that a chunked body may add without content."""
MAX_TARGET: Final = 16 * 1024
"""Bytes of one request target (path and query)."""
MAX_PIPELINED: Final = 256
"""Requests that may wait on a connection behind the one being answered."""
HIGH_WATER: Final = 256 * 1024
"""Bytes of a body that are read before the app asks for it: as much as one read of the socket can bring."""
LINGER: Final = 1.0
"""Seconds for a refused client to read the answer and to stop sending."""
IDLE_GRACE: Final = 0.5
"""Seconds that an idle connection stays open when the process ends: its next request may be on its way already."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The configured limits; times in seconds, sizes in bytes."""

    header: float = 10.0  # from the first byte of a head (or the opening of a connection) to its last
    body: float = 15.0  # silence within a body
    write: float = 60.0  # the client reads nothing while the write buffer is full
    keep_alive: float = 75.0  # an idle connection after its first answer
    max_body: int = 20 * 2**20
    max_connections: int = 8192
