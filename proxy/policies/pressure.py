"""Whether this process has more to do than it can: new calls are refused then, running ones go on."""

from dataclasses import dataclass, field
from pathlib import Path

from proxy.errors import SluiceError

_LATE = 1.0  # seconds behind its time that the event loop may be
_FULL = 0.92  # share of the memory that may be taken
_ROOT = Path("/")


@dataclass(slots=True)
class Pressure:
    """Told from time to time how things stand; `refusal` is what new calls get, None: they are welcome."""

    memory: int | None = None  # bytes that this process may take; None: not known
    refusal: SluiceError | None = None
    _late: int = field(default=0)

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
    """Bytes that this process may take: of its control group, else of the machine; None where neither is told."""
    for place in ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            said = (root / place).read_text().strip()
        except OSError:
            continue
        if said.isdecimal() and int(said) < 1 << 60:
            return int(said)
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemTotal:")), None)


def resident(root: Path = _ROOT) -> int:
    """Bytes of memory that this process has; 0 where the system does not tell."""
    try:
        pages = (root / "proc/self/statm").read_text().split()[1]
    except (OSError, IndexError):
        return 0
    return int(pages) * 4096
