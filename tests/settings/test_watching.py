"""A changed configuration is noticed."""

import asyncio
import resource
from contextlib import aclosing
from pathlib import Path

from proxy.settings import Watcher


def test_only_other_contents_are_a_change(tmp_path: Path) -> None:
    file, extra = tmp_path / "config.yaml", tmp_path / ".env"
    file.write_text("a: 1")
    watcher = Watcher(file, (extra,))
    assert not watcher.changed()
    file.write_text("a: 1")
    assert not watcher.changed()
    file.write_text("a: 2")
    assert watcher.changed() and not watcher.changed()
    extra.write_text("")
    assert watcher.changed()
    extra.unlink()
    assert watcher.changed()


def test_a_process_that_can_open_no_more_files_sees_no_change(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("a: 1")
    watcher = Watcher(file)
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, allowed[1]))
    try:
        full = watcher.changed()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, allowed)
    assert not full and not watcher.changed()
    file.write_text("a: 2")
    assert watcher.changed()


def test_a_swapped_directory_is_a_change(tmp_path: Path) -> None:
    """As Kubernetes does it: the file is a link through `..data`, which is exchanged as a whole."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(name)
    data, file = tmp_path / "..data", tmp_path / "config.yaml"
    data.symlink_to("one")
    file.symlink_to("..data/config.yaml")
    watcher = Watcher(file)
    (tmp_path / "..new").symlink_to("two")
    (tmp_path / "..new").rename(data)
    assert watcher.changed() and not watcher.changed()


def test_contents_cannot_move_between_files_unnoticed(tmp_path: Path) -> None:
    file, extra = tmp_path / "a", tmp_path / "b"
    file.write_text("xy")
    extra.write_text("")
    watcher = Watcher(file, (extra,))
    file.write_text("x")
    extra.write_text("y")
    assert watcher.changed()


def test_changes_come_one_by_one(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("0")

    async def count() -> int:
        seen = 0
        async with aclosing(Watcher(file).changes(interval=0.01)) as changes:
            file.write_text("1")
            async for _ in changes:
                seen += 1
                if seen == 2:
                    break
                file.write_text("2")
        return seen

    assert asyncio.run(asyncio.wait_for(count(), 10)) == 2
