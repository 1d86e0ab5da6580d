"""Has a process end with the one that started it, however that one ends."""

import ctypes
import os
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1  # prctl(2)


def end_with_parent(parent: int, by: signal.Signals) -> None:
    """Has the kernel (Linux) send `by` to this process when the parent is gone; it may have gone already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, by)
    if os.getppid() != parent:
        sys.exit(1)
