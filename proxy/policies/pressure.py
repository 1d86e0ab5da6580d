"""Whether this process has more to do than it can: new calls are refused then, running ones go on."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from resource import getpagesize

from proxy.errors import SluiceError

_LATE = 1.0  # seconds behind its time that the event loop may be
_FULL = 0.92  # share of the memory that may be taken
_ROOT = Path("/")
_GROUPS = {
    "": ("sys/fs/cgroup", "memory.max"),
    "memory": ("sys/fs/cgroup/memory", "memory.limit_in_bytes"),
}  # control groups of version 2 and 1: where they are, and what says how much memory they may have


@dataclass(slots=True)
class Pressure:
    """Told from time to time how things stand; `refusal` is what new calls get, None: they are welcome."""

    memory: int | None = None  # bytes that this process may take; None: not known
    refusal: SluiceError | None = None
    _late: int = 0

    def note(self, lag: float, taken: int) -> None:
        """`lag`: seconds that the loop was late, `taken`: bytes resident. Two late looks in a row are pressure."""
        self._late = self._late + 1 if lag > _LATE else 0
        reason = ""
        if self._late >= 2:
            reason = f"its event loop is {lag:.1f} s behind"
        elif self.memory is not None and taken > self.memory * _FULL:
            reason = "its memory is nearly full"
        self.refusal = (
            SluiceError("proxy_overloaded", f"The proxy takes no new calls just now: {reason}.", retry_after=2.0)
            if reason
            else None
        )


def memory_limit(root: Path = _ROOT) -> int | None:
    """Bytes that this process may take: of its control groups, else of the machine; None where neither is told."""
    limits = [limit for place in _limits(root) if (limit := _limit_in(place)) is not None]
    if limits:
        return min(limits)
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemTotal:")), None)


def _limits(root: Path) -> Iterator[Path]:
    """The files with the limits of the control groups that this process is in, each with those around it.

    A container sees its own group as the outermost one; a service of systemd's does not.
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
    """Bytes of memory that this process has; 0 where the system does not tell."""
    try:
        pages = (root / "proc/self/statm").read_text().split()[1]
    except (OSError, IndexError):
        return 0
    return int(pages) * getpagesize()
