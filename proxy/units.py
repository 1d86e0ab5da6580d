"""Durations, sizes and shares as people write them: `250ms`, `20MB`, `20%`."""

import re
from typing import Final

DURATION: Final = r"[0-9]{1,12}(\.[0-9]{1,9})?(ms|s|m|h)"
SIZE: Final = r"[0-9]{1,12}(\.[0-9]{1,9})?(B|KB|MB|GB)"
SHARE: Final = r"[0-9]{1,3}(\.[0-9]{1,9})?%"

SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
BYTES: Final = {"B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}


def duration(text: object) -> float:
    """Seconds of `250ms`, `5s`, `10m` or `1h`. Raises ValueError for anything else, a bare number included."""
    number, unit = _split(text, DURATION, "expected a duration such as 250ms, 5s, 10m or 1h")
    # Division gives the float nearest to the written value; 250 * 0.001 need not.
    return float(number) / 1000 if unit == "ms" else float(number) * SECONDS[unit]


def wait(text: object) -> float:
    """The same as `duration`, but more than zero."""
    if seconds := duration(text):
        return seconds
    raise ValueError("expected a duration of more than 0s")


def size(text: object) -> int:
    """Bytes of `512B`, `64KB`, `20MB` or `1GB`, in powers of 1024, cut to whole ones. Raises ValueError."""
    number, unit = _split(text, SIZE, "expected a size such as 64KB, 20MB or 1GB")
    return int(number) * BYTES[unit] if number.isdigit() else int(float(number) * BYTES[unit])


def share(text: object) -> float:
    """`20%` as 0.2. Raises ValueError for anything else and for more than 100%."""
    wanted = "expected a share such as 20%, at most 100%"
    number, _ = _split(text, SHARE, wanted)
    if float(number) > 100:
        raise ValueError(wanted)
    return float(number) / 100


def written_duration(seconds: float) -> str:
    """0.25 as `250ms`, 600 as `10m`: the largest unit that leaves a whole number."""
    for unit in ("h", "m", "s"):
        if seconds and seconds % SECONDS[unit] == 0:
            return f"{seconds / SECONDS[unit]:.0f}{unit}"
    return f"{seconds * 1000:g}ms"


def written_size(count: int) -> str:
    """65536 as `64KB`: the largest unit that leaves a whole number."""
    unit = next(unit for unit in ("GB", "MB", "KB", "B") if count % BYTES[unit] == 0 and (count or unit == "B"))
    return f"{count // BYTES[unit]}{unit}"


def written_share(value: float) -> str:
    """0.2 as `20%`."""
    return f"{value * 100:g}%"


def _split(text: object, pattern: str, wanted: str) -> tuple[str, str]:
    """Number and unit of a text that matches the whole pattern."""
    if not isinstance(text, str) or not re.fullmatch(pattern, text):
        raise ValueError(wanted)
    number = text.rstrip("BKMGmsh%")
    return number, text[len(number) :]
