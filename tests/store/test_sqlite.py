"""What was written is there after a restart and in other processes, and a broken disk is an error, never a crash."""

import gc
import os
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from proxy.store.contract import Counts, StoreError
from proxy.store.sqlite import SqliteStore
from tests.store.lines import adds_once, adds_up, prunes

ROOT = Path(__file__).parent.parent.parent


def run(code: str, *arguments: object) -> str:
    """What another process with this store says."""
    made = "import sys\nfrom pathlib import Path\nfrom proxy.store.sqlite import SqliteStore\nfrom proxy.store.contract import StoreError\n"
    command = [sys.executable, "-c", made + code, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=True).stdout.strip()


def test_texts_are_kept_by_kind_and_name(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.db")
    assert store.read("a") == {}
    hostile = "'; DROP TABLE kept; --\0\u2028é\n"
    for kind, name, text in (
        ("a", "x", "1"),
        ("a", "y", hostile),
        ("b", "x", "2"),
        ("a", "x", "3"),
        (hostile, hostile, ""),
    ):
        store.write(kind, name, text)
    assert store.read("a") == {"x": "3", "y": hostile}
    assert store.read(hostile) == {hostile: ""}
    store.write("a", "x", None)
    store.write("a", "x", None)
    assert store.read("a") == {"y": hostile}
    store.close()
    store.close()
    again = SqliteStore(tmp_path / "s.db")
    assert again.read("b") == {"x": "2"}
    again.close()


def test_a_text_is_swapped_only_where_it_is_what_it_was_thought_to_be(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.db")
    assert store.swap("a", "x", None, "1") and store.version() == 1
    assert store.swap("a", "x", None, "1"), "it is done already"
    assert not store.swap("a", "x", None, "2") and not store.swap("a", "x", "0", "2")
    assert not store.swap("a", "gone", "1", "2") and store.read("a") == {"x": "1"}
    before = store.version()
    assert store.swap("a", "x", "1", "2") and store.swap("a", "x", "1", "2") and store.read("a") == {"x": "2"}
    assert store.version() == before + 2
    store.write("a", "x", None)
    assert not store.swap("a", "x", "2", "3") and store.read("a") == {}, "what was forgotten stays so"
    store.close()


def test_the_ledger_adds_up_what_processes_write(tmp_path: Path) -> None:
    with closing(SqliteStore(tmp_path / "s.db")) as store, closing(SqliteStore(tmp_path / "s.db")) as other:
        adds_up(store, other)


def test_a_batch_counts_once(tmp_path: Path) -> None:
    with closing(SqliteStore(tmp_path / "s.db")) as store:
        adds_once(store)


def test_old_days_are_deleted(tmp_path: Path) -> None:
    with closing(SqliteStore(tmp_path / "s.db")) as store:
        prunes(store)


def test_the_ledger_of_many_processes_at_once_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    code = (
        "from proxy.store.contract import Batch, Counts\nstore = SqliteStore(Path(sys.argv[1]))\n"
        "for at in range(1, 21): store.add(Batch(sys.argv[2], at, 1, {('k', '2026-11-28', 'u', 'm'): Counts(1, cost=0.5)}))\n"
        "store.close()"
    )
    others = [threading.Thread(target=run, args=(code, path, name)) for name in "pqr"]
    for thread in others:
        thread.start()
    for thread in others:
        thread.join(60)
    with closing(SqliteStore(path)) as store:
        assert store.sums("2026-11-28", "2026-11-28", ("key",)) == {("k",): Counts(60, cost=30.0)}


def test_the_version_grows_with_every_write_by_anybody(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    store = SqliteStore(path)
    before = store.version()
    store.write("a", "x", "1")
    run("store = SqliteStore(Path(sys.argv[1])); store.write('a', 'y', '2'); store.close()", path)
    assert store.version() == before + 2
    assert store.read("a") == {"x": "1", "y": "2"}
    store.close()


def test_two_processes_and_many_threads_write_at_once_and_nothing_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    code = "store = SqliteStore(Path(sys.argv[1]))\nfor at in range(20): store.write('a', f'{sys.argv[2]}-{at}', 'x')\nstore.close()"
    others = [threading.Thread(target=run, args=(code, path, name)) for name in "pq"]
    store = SqliteStore(path)

    def write(name: str) -> None:
        for at in range(10):
            store.write("a", f"{name}-{at}", "x")

    threads = [threading.Thread(target=write, args=(name,)) for name in "rs"]
    for thread in others + threads:
        thread.start()
    for thread in others + threads:
        thread.join(60)
    assert len(store.read("a")) == 60
    assert store.version() == 60
    store.close()


@pytest.mark.parametrize(
    "content", [b"this is no database, whatever its name says" * 100, b"SQLite format 3\0" + b"\xff" * 5000]
)
def test_a_file_that_is_no_store_is_an_error_that_can_be_shown(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "s.db"
    path.write_bytes(content)
    store = SqliteStore(path)
    for attempt in (lambda: store.read("a"), lambda: store.write("a", "x", "1"), store.version):
        with pytest.raises(StoreError) as raised:
            attempt()
        assert str(tmp_path) not in str(raised.value)
    store.close()
    gc.collect()  # a connection that was left open would warn now
    path.unlink()
    assert store.read("a") == {}  # and it works once the file is good
    store.close()


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "missing" / "s.db")
    with pytest.raises(StoreError):
        store.write("a", "x", "1")
    (tmp_path / "missing").mkdir()
    store.write("a", "x", "1")
    assert store.read("a") == {"x": "1"}
    store.close()


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")
def test_a_folder_that_is_read_only(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(StoreError):
            SqliteStore(tmp_path / "s.db").write("a", "x", "1")
    finally:
        tmp_path.chmod(0o700)


def test_a_full_disk_is_an_error_and_what_was_kept_stays(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    code = (
        "import resource\nstore = SqliteStore(Path(sys.argv[1]))\nstore.write('a', 'kept', '1')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))\n"
        "try: store.write('a', 'large', 'x' * 1_000_000)\nexcept StoreError as error: print('refused')\n"
        "print(store.read('a'))\n"
    )
    assert run(code, path).splitlines() == ["refused", "{'kept': '1'}"]
    store = SqliteStore(path)
    assert store.read("a") == {"kept": "1"}
    store.close()
