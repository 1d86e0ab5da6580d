"""The wheel, installed with its lean dependencies alone, works from any folder; what an extra brings is asked for by name."""

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import Distribution
from pathlib import Path

import httpx
import pytest

from docs.build_licences import pinned
from tests.deploy.replay import Replay

ROOT = Path(__file__).parents[2]
BASE = ROOT / "requirements" / "base.lock"
LEAN = """
server: {port: 0}
upstreams:
  mine: {provider: openai, base_url: "http://127.0.0.1:9/v1", models: [m]}
tests:
  - {model: anything, expect: mine/anything}
"""
WITHOUT_EXTRAS = """
server: {port: 0}
store: postgresql://sluice:hunter2@127.0.0.1:9/sluice
upstreams:
  embedded: {provider: llamacpp}
  proxied: {provider: openai, base_url: "https://127.0.0.1:9/v1", proxy: "socks5://127.0.0.1:9", models: [m]}
"""
REFUSED = {
    "redis": LEAN + "cache: {store: 'redis://127.0.0.1:9/0'}\n",
    "semantic": LEAN + "routes: [{model: alike, to: mine/m, cache: {exact: 1h, similar: 1h}}]\n",
}


def command(replay: Replay, program: str, *arguments: str) -> list[str]:
    """A program of the environment that the wheel stands in."""
    return [str(replay.moved("/opt/sluice/bin") / program), *arguments]


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """Nothing of this process's, and nothing written beside the installed files."""
    return {"PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"} | dict(more)


def asked(replay: Replay, folder: Path, *said: str) -> "subprocess.CompletedProcess[str]":
    """A command that ends by itself, in a folder."""
    return subprocess.run(
        command(replay, *said), cwd=folder, env=environment({}), capture_output=True, text=True, timeout=60
    )


@contextmanager
def serving(replay: Replay, folder: Path, config: str, **environ: str) -> Iterator[tuple[httpx.Client, list[str]]]:
    """A client of `python -m proxy serve` in a folder, and the lines that it logged until it listened."""
    (folder / "config.yaml").write_text(config)
    process = subprocess.Popen(
        command(replay, "python", "-m", "proxy", "serve"), cwd=folder, env=environment(environ),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    lines: list[str] = []
    assert process.stdout is not None
    try:
        for line in process.stdout:
            lines.append(line)
            if listens := re.search(r"listens on (http://[\d.:]+)", line):
                break
        else:
            pytest.fail(f"it ended: {''.join(lines)}")
        with httpx.Client(base_url=listens[1], trust_env=False) as client:
            yield client, lines
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def lean(replay: Replay, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with serving(replay, tmp_path_factory.mktemp("elsewhere"), LEAN) as (client, _):
        yield client


def distributions(replay: Replay) -> dict[str, Distribution]:
    """What is installed, by names as lock files write them."""
    found = (Distribution.at(path) for path in replay.moved("/opt/sluice").rglob("*.dist-info"))
    return {re.sub(r"[-_.]+", "-", each.metadata["Name"]).lower(): each for each in found}


def test_beside_the_wheel_stands_what_the_lock_pins_and_no_extra(replay: Replay) -> None:
    versions = {name: each.version for name, each in distributions(replay).items()}
    versions.pop("setuptools", None)  # Python 3.11 puts it into every virtual environment
    assert versions.pop("sluice")
    assert versions.items() <= {(each.name, each.version) for each in pinned(BASE)}


def test_the_wheel_holds_every_file_of_the_package_and_no_other(replay: Replay) -> None:
    files = {str(file) for file in distributions(replay)["sluice"].files or () if file.suffix != ".pyc"}
    ours = {path for path in (ROOT / "proxy").rglob("*") if path.is_file() and path.suffix != ".pyc"}
    others = {file for file in files if ".dist-info/" not in file}
    assert others == {path.relative_to(ROOT).as_posix() for path in ours} | {"../../../bin/sluice"}
    assert any(file.endswith(".dist-info/licenses/LICENSE") for file in files)


@pytest.mark.parametrize("program", [("sluice",), ("python", "-m", "proxy")], ids=lambda said: said[0])
def test_a_configuration_is_checked(replay: Replay, program: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(LEAN)
    said = asked(replay, tmp_path, *program, "check")
    assert (said.returncode, said.stderr) == (0, "")
    assert "tests: 1 passed" in said.stdout
    assert asked(replay, tmp_path, *program, "check", "nowhere.yaml").returncode == 2


def test_an_installed_wheel_serves(lean: httpx.Client) -> None:
    assert lean.get("/livez").status_code == 200
    assert lean.get("/readyz").status_code == 200
    assert [model["id"] for model in lean.get("/v1/models").json()["data"]] == ["mine/m"]


@pytest.mark.parametrize("page", ["/ui", "/admin", "/admin/login", "/docs"])
def test_pages_find_all_that_they_name(lean: httpx.Client, page: str) -> None:
    shown = lean.get(page)
    assert shown.status_code == 200 and shown.headers["content-type"].startswith("text/html")
    todo, seen = set(re.findall(r"/static/[\w./-]+", shown.text)), set[str]()
    while todo:
        seen.add(name := todo.pop())
        file = lean.get(name)
        assert file.status_code == 200 and file.content, name
        todo |= set(re.findall(r"/static/[\w./-]+\.(?:css|js|svg)", file.text)) - seen
    assert page == "/docs" or any("/vendor/" in name for name in seen) or page == "/admin/login"


def test_the_api_is_described(lean: httpx.Client, replay: Replay) -> None:
    described = lean.get("/openapi.json").json()
    assert described["openapi"].startswith("3.1")
    assert described["info"]["version"] == distributions(replay)["sluice"].version
    assert "/v1/chat/completions" in described["paths"]


@pytest.mark.parametrize("word", ["check", "serve"])
@pytest.mark.parametrize("extra", REFUSED)
def test_a_start_without_a_needed_extra_says_which(replay: Replay, extra: str, word: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(REFUSED[extra])
    said = asked(replay, tmp_path, "python", "-m", "proxy", word)
    assert said.returncode == 2
    assert f'pip install "sluice[{extra}]"' in said.stderr and "Traceback" not in said.stderr


def test_where_calls_can_do_without_an_extra_it_is_said_and_they_do(replay: Replay, tmp_path: Path) -> None:
    asks = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    with serving(replay, tmp_path, WITHOUT_EXTRAS, **asks) as (client, lines):
        logged = "".join(json.loads(line)["message"] for line in lines)
        assert "pip install 'sluice[otel]'" in logged
        assert 'pip install "sluice[postgres]"' in logged
        standings = {each["name"]: each for each in client.get("/readyz").json()["upstreams"]}
        assert not standings["embedded"]["healthy"] and standings["embedded"]["reason"]
        refused = client.post("/v1/chat/completions", json={"model": "proxied/m", "messages": []})
        assert refused.status_code == 503 and "extra `h2`" in refused.json()["error"]["message"]


def test_check_warns_of_missing_extras_that_a_start_can_do_without(replay: Replay, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(WITHOUT_EXTRAS)
    said = asked(replay, tmp_path, "python", "-m", "proxy", "check")
    assert "off: the extra `local` is not installed" in said.stdout
    assert (said.returncode, said.stderr.splitlines()) == (
        0,
        [
            f'config.yaml: warning: {what} needs the extra "{extra}", which is not installed: pip install "sluice[{extra}]"'
            for what, extra in (
                ("store: postgresql://…", "postgres"),
                ("upstreams.proxied", "h2"),
            )
        ],
    )


def test_every_extra_that_is_named_can_be_had(replay: Replay) -> None:
    offered = set(distributions(replay)["sluice"].metadata.get_all("Provides-Extra") or ())
    texts = "".join(path.read_text() for path in (ROOT / "proxy").rglob("*.py"))
    named = set(re.findall(r"sluice\[(\w+)\]", texts)) | set(re.findall(r"extra `(\w+)`", texts))
    assert named and named <= offered
