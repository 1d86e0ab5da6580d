"""The image, made once for the tests of the Dockerfile's steps and for those of the package in it."""

from pathlib import Path

import pytest

from tests.deploy.dockerfile import parse
from tests.deploy.replay import Replay

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def replay(tmp_path_factory: pytest.TempPathFactory) -> Replay:
    """An empty virtual environment with the packages of base.lock and the wheel of this tree, and nothing else."""
    made = Replay(ROOT, tmp_path_factory.mktemp("image"), ROOT / "build/wheels")
    for stage in parse((ROOT / "Dockerfile").read_text()):
        made.build(stage)
    return made
