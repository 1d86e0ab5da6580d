"""The scripts that set up a machine, run on simulated machines."""

import os
import shutil
import subprocess
import sys
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
        ({"python3": "Welcome", "python3.12": "55"}, "python3.12"),
        ({"python3": "60", "python3.12": "Welcome 5"}, "python3"),
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


def test_a_python_that_hangs_is_not_waited_for(tmp_path: Path) -> None:
    for name, does in {
        "python3": "cat >/dev/null; echo 60",
        "python3.12": "sleep 60",
        "timeout": 'shift; exec /usr/bin/timeout 1 "$@"',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / name).chmod(0o755)
    environ = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    said = subprocess.run(
        [ROOT / "scripts/quickest-python"], env=environ, capture_output=True, text=True, check=True, timeout=30
    )
    assert said.stdout == "python3\n"


@pytest.mark.parametrize(("python", "pip"), [("/bin/false", False), ("/gone", True)])
def test_an_unusable_virtual_environment_is_recreated(tmp_path: Path, python: str, pip: bool) -> None:
    """Another Python left it half-way, or was removed since."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements/base.lock").touch()
    (tmp_path / "pyproject.toml").touch()
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    for link in (venv / "bin").glob("python*"):
        link.unlink()
        link.symlink_to(python)
    if pip:
        (venv / "bin/pip").touch(0o755)
        (venv / ".installed-base").touch()
    environ = {**os.environ, "PYTHON": sys.executable, "VENV": str(venv)}
    subprocess.run(
        [tmp_path / "scripts/install", "base"], env=environ, capture_output=True
    )  # there is nothing to install
    subprocess.run([venv / "bin/python", "-m", "pip", "--version"], check=True, capture_output=True)
