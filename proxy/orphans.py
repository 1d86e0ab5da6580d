"""Ends a process when its parent ends, however that happens."""

import ctypes
import os
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1  # prctl(2)


def end_with_parent(parent: int, by: signal.Signals) -> None:
    """Has the kernel (Linux) send signal `by` to this process once its parent has ended, or now if it has already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, by)
    if os.getppid() != parent:
        sys.exit(1)
