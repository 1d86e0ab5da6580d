"""Detects changes of the configuration on disk."""

import asyncio
import errno
import hashlib
from collections.abc import AsyncGenerator, Iterable
from pathlib import Path

_SETTLING = 0.1  # seconds between two checks whether a file is still being written
_LOOKS = 10  # after so many checks a file that keeps changing is reported anyway


class Watcher:
    """Compares contents, not dates: it notices the swapped directory of a ConfigMap, and ignores a mere touch."""

    def __init__(self, path: Path, extra: Iterable[Path] = ()) -> None:
        """Watches `path` and, if they exist, `extra`, from their present contents on."""
        self._paths = (path, *extra)
        self._seen = b""
        self._seen = self.fingerprint()

    def fingerprint(self) -> bytes:
        """A hash of the contents; a missing or unreadable file differs from an empty one."""
        parts = hashlib.sha256()
        for path in self._paths:
            try:
                parts.update(hashlib.sha256(path.read_bytes()).digest())
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):  # out of file descriptors: says nothing about the file
                    return self._seen
                parts.update(b"-")
        return parts.digest()

    def changed(self) -> bool:
        """Whether the contents differ from the last call of this."""
        before, self._seen = self._seen, self.fingerprint()
        return before != self._seen

    async def changes(self, interval: float = 2.0) -> AsyncGenerator[None, None]:
        """One item per change, within `interval` seconds plus the time until writing has ended."""
        while True:
            await asyncio.sleep(interval)
            if await asyncio.to_thread(self.changed):
                for _ in range(_LOOKS):
                    await asyncio.sleep(_SETTLING)
                    if not await asyncio.to_thread(self.changed):
                        break
                yield
