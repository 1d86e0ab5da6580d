"""Overload protection: while the process is overloaded, new calls are refused and running ones go on."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from resource import getpagesize

from proxy.errors import SluiceError

_LATE = 1.0  # seconds that the event loop may be late
_FULL = 0.92  # share of the memory limit
_ROOT = Path("/")
_GROUPS = {
    "": ("sys/fs/cgroup", "memory.max"),
    "memory": ("sys/fs/cgroup/memory", "memory.limit_in_bytes"),
}  # cgroups v2 and v1: mount point, and the file that holds the memory limit


@dataclass(slots=True)
class Pressure:
    """Fed with measurements at intervals. `refusal`: the error for new calls; None: not overloaded."""

    memory: int | None = None  # limit in bytes; None: unknown
    refusal: SluiceError | None = None
    _late: int = 0

    def note(self, lag: float, taken: int) -> None:
        """`lag`: seconds that the loop was late, `taken`: resident bytes.

        Two late measurements in a row mean overload.
        """
        self._late = self._late + 1 if lag > _LATE else 0
        reason = ""
        if self._late >= 2:
            reason = f"its event loop is {lag:.1f} s behind"
        elif self.memory is not None and taken > self.memory * _FULL:
            reason = "its memory is nearly full"
        self.refusal = (
            SluiceError("proxy_overloaded", f"The proxy accepts no new calls at the moment: {reason}.", retry_after=2.0)
            if reason
            else None
        )


def memory_limit(root: Path = _ROOT) -> int | None:
    """Bytes that this process may take: by its control groups, else by the machine; None: unknown."""
    limits = [limit for place in _limits(root) if (limit := _limit_in(place)) is not None]
    if limits:
        return min(limits)
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemTotal:")), None)


def _limits(root: Path) -> Iterator[Path]:
    """The files with the memory limits of this process's control groups and of the groups that contain them.

    A container sees its own group as the root; a systemd service does not.
    """
    try:
        told = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        told = []
    for line in [*told, "0::/", "0:memory:/"]:
        kinds, _, group = line.partition(":")[2].partition(":")
        for kind in kinds.split(","):
            if kind in _GROUPS:
                top, file = root / _GROUPS[kind][0], _GROUPS[kind][1]
                inner = top / group.lstrip("/")
                yield from (around / file for around in (inner, *inner.parents) if around.is_relative_to(top))


def _limit_in(place: Path) -> int | None:
    try:
        said = place.read_text().strip()
    except OSError:
        return None
    return int(said) if said.isdecimal() and int(said) < 1 << 60 else None


def resident_memory(root: Path = _ROOT) -> int:
    """Resident bytes of this process; 0 where the system does not report them."""
    try:
        pages = (root / "proc/self/statm").read_text().split()[1]
    except (OSError, IndexError):
        return 0
    return int(pages) * getpagesize()
