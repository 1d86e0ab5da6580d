"""Opening the store by its address, and errors for missing packages."""

import subprocess
import sys
from pathlib import Path

import pytest

from proxy.store.opening import open_store
from proxy.store.sqlite import SqliteStore

WITHOUT = """
import sys
sys.modules["psycopg"] = None  # as Python itself marks what cannot be imported
from proxy.store.contract import StoreError
from proxy.store.opening import open_store
store = open_store(sys.argv[1])
swap = lambda: store.swap("kind", "name", None, "text")
for step in (store.version, lambda: store.read("kind"), lambda: store.write("kind", "name", None), swap):
    try:
        step()
    except StoreError as error:
        print(error)
store.close()
"""


def test_a_file_by_its_path(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/sluice.db")
    assert isinstance(store, SqliteStore)
    store.write("kind", "name", "text")
    store.close()
    assert (tmp_path / "sluice.db").exists()


@pytest.mark.parametrize("scheme", ["postgresql", "postgres"])
def test_a_server_by_its_scheme_and_nothing_is_connected_yet(scheme: str) -> None:
    pytest.importorskip("psycopg", reason="needs the extra `postgres`")
    from proxy.store.postgres import PostgresStore

    store = open_store(f"{scheme}://sluice:hunter2@127.0.0.1:1/sluice")
    assert isinstance(store, PostgresStore) and "hunter2" not in repr(store)
    store.close()


def test_a_missing_extra_is_named_at_the_first_use() -> None:
    command = [sys.executable, "-c", WITHOUT, "postgresql://sluice:hunter2@127.0.0.1:1/sluice"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    told = 'store: postgresql://… needs the extra "postgres": pip install "sluice[postgres]".'
    assert run.stdout.splitlines() == [told] * 4
