"""The soak, in its quick form: mixed calls against `sluice serve`, with memory, files and calls under way flat."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_a_quick_soak_passes() -> None:
    command = [sys.executable, "-m", "bench.soak", "--quick"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "PASS" in ended.stdout
