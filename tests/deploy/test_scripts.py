"""The scripts that set up a new machine, on machines that are made up."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("pythons", "best"),
    [
        ({"python3": "60"}, "python3"),
        ({"python3": "60", "python3.11": "30"}, "python3.11"),
        ({"python3": "60", "python3.11": "30", "python3.13": "20"}, "python3.13"),
        ({"python3": "60", "python3.12": "55"}, "python3"),  # not worth a surprise
        ({"python3": "60", "python3.12": ""}, "python3"),  # one that cannot make virtual environments, or is too new
        ({"python3": "", "python3.12": "55"}, "python3.12"),
    ],
)
def test_the_quickest_python_is_taken(tmp_path: Path, pythons: dict[str, str], best: str) -> None:
    for name, microseconds in pythons.items():  # far below what any real one takes
        (tmp_path / name).write_text(f"#!/bin/sh\ncat >/dev/null\necho {microseconds}\n")
        (tmp_path / name).chmod(0o755)
    environ = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    said = subprocess.run([ROOT / "scripts/quickest-python"], env=environ, capture_output=True, text=True, check=True)
    assert Path(said.stdout.strip()).name == best
    assert said.stdout.strip() in (best, str(tmp_path / best))
