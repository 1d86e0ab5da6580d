"""`sluice serve --workers 2` as a process of its own."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from tests.waiting import wait_for

ROOT = Path(__file__).parent.parent


@dataclass(slots=True)
class Supervised:
    """The parent, its address, and the lines of its log so far."""

    process: subprocess.Popen[str]
    url: str = ""
    lines: list[str] = field(default_factory=list)

    def workers(self) -> set[int]:
        """The processes that the parent has."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return {int(pid) for pid in children.split()}


Made = TypeVar("Made", bound=Supervised)


@contextmanager
def supervised(
    made_of: Callable[[subprocess.Popen[str]], Made], config: Path, flags: Sequence[str] = (), **environ: str
) -> Iterator[Made]:
    """Two workers of this config.yaml, listening, beside it; `flags`: Python's. They are ended with the scope."""
    process = subprocess.Popen(
        [sys.executable, *flags, "-m", "proxy", "serve", "--config", str(config), "--workers", "2"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environ},
        cwd=config.parent,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    made = made_of(process)
    reader = threading.Thread(target=_read, args=(made,))
    reader.start()
    try:
        made.url = wait_for(lambda: _listening(made.lines), 30)
        yield made
    finally:
        process.terminate()
        process.wait(20)
        reader.join(10)
        assert process.stderr is not None
        process.stderr.close()


def _read(made: Supervised) -> None:
    assert made.process.stderr is not None
    made.lines.extend(iter(made.process.stderr.readline, ""))


def _listening(lines: list[str]) -> str:
    found = re.search(r"listens on (http://[\d.]+:\d+)", "".join(list(lines)))
    return found[1] if found else ""
