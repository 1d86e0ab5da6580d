"""Notices that a configuration has changed on disk."""

import asyncio
import errno
import hashlib
from collections.abc import AsyncGenerator, Iterable
from pathlib import Path

_SETTLING = 0.1  # seconds between two looks at a file that somebody may still be writing
_LOOKS = 10  # after so many a file that never rests is reported all the same


class Watcher:
    """Compares what files hold, not their dates: it sees a ConfigMap's swapped directory and no mere touch."""

    def __init__(self, path: Path, extra: Iterable[Path] = ()) -> None:
        """Watches `path` and, if they exist, `extra`, from what they hold now."""
        self._paths = (path, *extra)
        self._seen = b""
        self._seen = self.fingerprint()

    def fingerprint(self) -> bytes:
        """A hash over the contents; a file that is missing or cannot be read differs from an empty one."""
        parts = hashlib.sha256()
        for path in self._paths:
            try:
                parts.update(hashlib.sha256(path.read_bytes()).digest())
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):  # that says nothing of the file
                    return self._seen
                parts.update(b"-")
        return parts.digest()

    def changed(self) -> bool:
        """Whether the contents are other than at the last time this was asked."""
        before, self._seen = self._seen, self.fingerprint()
        return before != self._seen

    async def changes(self, interval: float = 2.0) -> AsyncGenerator[None, None]:
        """One item per change, at most `interval` seconds (and a little, until writing has ended) after it."""
        while True:
            await asyncio.sleep(interval)
            if await asyncio.to_thread(self.changed):
                for _ in range(_LOOKS):
                    await asyncio.sleep(_SETTLING)
                    if not await asyncio.to_thread(self.changed):
                        break
                yield
