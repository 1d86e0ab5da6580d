"""The Dockerfile says what it should, and its steps, replayed without Docker, give a Sluice that serves."""

import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.deploy.dockerfile import Stage, context, pairs, parse
from tests.deploy.replay import Replay
from tests.running import free_port
from tests.waiting import wait_for

ROOT = Path(__file__).parents[2]
BUILD, IMAGE = parse((ROOT / "Dockerfile").read_text())
KEY = "sk-of-a-client"


@dataclass(frozen=True, slots=True)
class Served:
    """The entry point of the image, serving."""

    process: "subprocess.Popen[str]"
    url: str


def health(stage: Stage) -> list[str]:
    """The command of HEALTHCHECK."""
    return [str(word) for word in re.findall(r'"([^"]*)"', stage.last("HEALTHCHECK").text.partition("CMD ")[2])]


def test_the_image_is_slim_and_runs_as_nobody_in_particular() -> None:
    assert re.fullmatch(r"python:3\.1[123]-slim", IMAGE.image) and BUILD.image == IMAGE.image
    user, _, group = IMAGE.last("USER").text.partition(":")
    assert int(user) >= 10_000 and int(group) >= 10_000
    made = next(step.text for step in IMAGE.said("RUN") if "useradd" in step.text)
    assert f"--uid {user}" in made and f"--owner={user}" in made and f"--gid {group}" in made
    names = [step.name for step in IMAGE.steps]
    assert "RUN" not in names[names.index("USER") :] and "ADD" not in names


def test_a_builders_umask_keeps_nothing_from_the_user() -> None:
    last = {step.text.split()[-1]: at for at, step in enumerate(IMAGE.steps) if step.name == "COPY"}
    opened = next(at for at, step in enumerate(IMAGE.steps) if "chmod 644 /etc/sluice/config.yaml" in step.text)
    assert opened > last["/etc/sluice/config.yaml"]


def test_signals_health_and_labels() -> None:
    assert IMAGE.last("STOPSIGNAL").text == "SIGTERM"
    assert IMAGE.last("ENTRYPOINT").words() == ["python", "-m", "proxy"] and IMAGE.last("CMD").words() == ["serve"]
    assert health(IMAGE) == ["python", "-m", "proxy", "healthcheck"]
    assert IMAGE.last("EXPOSE").text == "8080" and IMAGE.last("VOLUME").words() == ["/var/lib/sluice"]
    labels = {
        name.removeprefix("org.opencontainers.image."): text for name, text in pairs(IMAGE.last("LABEL").text).items()
    }
    assert labels["title"] == "Sluice" and labels["licenses"] == "Apache-2.0"
    assert {"description", "version", "revision"} <= set(labels)


def test_packages_are_pinned_by_hash() -> None:
    installs = [step.text for step in BUILD.said("RUN") if "pip install" in step.text]
    assert "--require-hashes" in installs[0] and "--only-binary :all:" in installs[0]
    assert all("--require-hashes" in text or "--no-deps --no-build-isolation ." in text for text in installs)


def test_nothing_secret_or_heavy_is_sent_to_the_builder() -> None:
    sent = context(ROOT)
    assert {"pyproject.toml", "LICENSE", "proxy/app.py", "requirements/base.lock", "deploy/docker/config.yaml"} <= sent
    assert not [
        path for path in sent if re.search(r"(^|/)(\.env|.*\.db|secret\.env|\.git|__pycache__|tests|\.venv)(/|$)", path)
    ]


@pytest.fixture
def served(replay: Replay) -> Iterator[Served]:
    port = free_port()
    environ = replay.environment({"SLUICE_HOST": "127.0.0.1", "PORT": str(port), "SLUICE_KEY": KEY})
    process = started(replay, IMAGE.last("ENTRYPOINT").words() + IMAGE.last("CMD").words(), environ)
    try:
        wait_for(lambda: process.poll() is not None or checked(replay, environ) == 0, 30)
        yield Served(process, f"http://127.0.0.1:{port}")
    finally:
        process.kill()
        process.communicate()


def started(replay: Replay, command: list[str], environ: dict[str, str]) -> "subprocess.Popen[str]":
    """A command of the image, in its folder and with its environment."""
    program = replay.moved("/opt/sluice/bin") / command[0]
    environ = environ | {"SLUICE_STORE": f"sqlite:///{replay.moved('/var/lib/sluice')}/sluice.db"}
    return subprocess.Popen(
        [str(program), *command[1:]], cwd=replay.moved("/var/lib/sluice"), env=environ,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def checked(replay: Replay, environ: dict[str, str]) -> int:
    """The exit code of the health check."""
    process = started(replay, health(IMAGE), environ)
    process.communicate(timeout=30)
    return process.returncode


def test_the_image_holds_sluice_and_no_build_tools(replay: Replay) -> None:
    packages = {path.name.partition("-")[0] for path in replay.moved("/opt/sluice").rglob("*.dist-info")}
    assert {"sluice", "starlette", "httptools", "uvloop"} <= packages
    assert not packages & {"pip", "hatchling", "editables", "wheel", "pytest"}


def test_it_does_not_start_without_a_client_key(replay: Replay) -> None:
    process = started(replay, ["python", "-m", "proxy", "serve"], replay.environment({"PORT": "0"}))
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "access.client_keys" in said


def test_it_serves_says_so_and_drains(replay: Replay, served: Served) -> None:
    before = written(replay)
    with httpx.Client(base_url=served.url, trust_env=False) as client:
        assert client.get("/v1/models").status_code == 401
        assert client.get("/v1/models", headers={"authorization": f"Bearer {KEY}"}).status_code == 200
        assert "sluice_config_valid 1.0" in client.get("/metrics").text
    assert written(replay) == before, "the image's file system is to be read-only"
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(20) == 0


def test_the_health_check_fails_where_nothing_listens(replay: Replay) -> None:
    assert checked(replay, replay.environment({"PORT": str(free_port())})) == 1


def written(replay: Replay) -> set[Path]:
    """Every file but those in the one folder that may be written to."""
    data = replay.moved("/var/lib/sluice")
    return {path for path in replay.root.rglob("*") if data not in path.parents}
