"""The page for operators names every variable that traces are asked for by, every extra, lock file and script of ours."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text("utf-8")


def test_every_variable_that_switches_traces_is_explained() -> None:
    read = set(re.findall(r'"(OTEL_\w+)"', (ROOT / "proxy" / "tracing.py").read_text("utf-8")))
    assert len(read) >= 6
    assert read <= set(re.findall(r"`(OTEL_\w+)`", PAGE))


def test_every_extra_is_explained_and_in_the_lock_file_of_all() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    rows = set(re.findall(r"^\| `(\w+)` \|", PAGE, re.M))
    assert extras.keys() - {"dev"} <= rows
    (said,) = re.findall(r'^extras="(.*)"$', (ROOT / "scripts" / "lock").read_text("utf-8"), re.M)
    assert set(re.findall(r"--extra (\w+)", said)) == extras.keys() - {"dev"}


def test_files_and_scripts_that_are_named_are_there() -> None:
    locks = set(re.findall(r"`(\w+\.lock)`", PAGE)) | {f"{name}.lock" for name in re.findall(r"LOCK=(\w+)", PAGE)}
    scripts = set(re.findall(r"`scripts/([\w-]+)", PAGE))
    assert {"base.lock", "local.lock", "all.lock"} <= locks and {"lock", "sbom", "try-pythons"} <= scripts
    assert all((ROOT / "requirements" / name).is_file() for name in locks)
    assert all((ROOT / "scripts" / name).is_file() for name in scripts)


def test_what_is_quoted_from_the_log_is_what_the_code_says() -> None:
    code = "".join(path.read_text("utf-8") for path in (ROOT / "proxy").rglob("*.py"))
    for quoted in (
        "Earlier choices made on /admin are not in effect.",
        "calls continue without it",
        "and is restarted",
    ):
        assert quoted in PAGE.replace("\n  ", " ") and quoted in code
