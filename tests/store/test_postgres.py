"""The store in a real PostgreSQL: shared by machines, bounded when stuck, working again when it is back."""

import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, LiteralString

import pytest

from proxy.app import Sluice
from proxy.planning import load_settings
from proxy.serving.listening import listen
from proxy.store.contract import Counts, StoreError
from tests.doubles.openai import OpenAIDouble
from tests.running import Running, free_port, sluice
from tests.store.cluster import PASSWORD, Cluster, binaries, cluster
from tests.store.lines import ONE, adds_once, adds_up, batch, prunes
from tests.waiting import wait_for

psycopg = pytest.importorskip("psycopg", reason="needs the extra `postgres`")
BIN = binaries()
if BIN is None:
    pytest.skip("needs a PostgreSQL server (Debian's package postgresql)", allow_module_level=True)

from proxy.store.postgres import PRUNED_AT_ONCE, PostgresStore  # noqa: E402

BOUND = 4.5  # seconds: what a step may take, 3.5, and what a busy machine adds
CONFIG = """
upstreams:
  east: {{provider: openai, base_url: {url}, api_key: sk-east}}
  west: {{provider: openai, base_url: {url}, api_key: sk-east}}
default_upstream: east
store: {store}
"""
SESSIONS: LiteralString = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'sluice'"


@pytest.fixture(scope="module")
def running() -> Iterator[Cluster]:
    assert BIN is not None
    with cluster(BIN) as server:
        yield server


@pytest.fixture
def server(running: Cluster) -> Cluster:
    """Without the tables of the test before."""
    if running.process is None:
        running.start()
    ask(running, "DROP TABLE IF EXISTS sluice_kept, sluice_versions, sluice_ledger, sluice_writers")
    return running


@pytest.fixture
def store(server: Cluster) -> Iterator[PostgresStore]:
    store = PostgresStore(server.url())
    yield store
    store.close()


def ask(server: Cluster, statement: LiteralString) -> Any:
    with psycopg.connect(server.url(), autocommit=True) as connection:
        return connection.execute(statement).statusmessage


def failure(step: Any) -> str:
    """What a step that must fail says, within its bound and without secrets."""
    began = time.monotonic()
    with pytest.raises(StoreError) as caught:
        step()
    assert time.monotonic() - began < BOUND
    told = str(caught.value)
    assert caught.value.__cause__ is None and not any(word in told for word in ("127.0.0.1", PASSWORD, "nowhere"))
    return told.removeprefix("The store's PostgreSQL failed: ")


def works_again(store: PostgresStore) -> bool:
    try:
        return store.version() >= 0
    except StoreError:
        return False


def test_what_one_machine_keeps_another_finds(server: Cluster, store: PostgresStore) -> None:
    other = PostgresStore(server.url())
    assert (store.read("personas"), other.version()) == ({}, 0)
    store.write("personas", "a", "one é \U0001f600 %s ' \\")
    other.write("personas", "b", "two")
    other.write("settings", "a", "of another kind")
    assert store.read("personas") == {"a": "one é \U0001f600 %s ' \\", "b": "two"}
    store.write("personas", "b", "three")
    store.write("personas", "a", None)
    store.write("personas", "never", None)
    assert other.read("personas") == {"b": "three"}
    assert other.version() == store.version() == 6
    other.close()
    other.close()
    assert other.read("settings") == {"a": "of another kind"}, "closed is not the end"
    other.close()


def test_a_text_is_swapped_only_where_it_is_what_it_was_thought_to_be(store: PostgresStore) -> None:
    assert store.swap("a", "x", None, "1 %s") and store.version() == 1
    assert store.swap("a", "x", None, "1 %s"), "it is done already: a statement may be run twice"
    assert not store.swap("a", "x", None, "2") and not store.swap("a", "x", "0", "2")
    assert not store.swap("a", "gone", "1 %s", "2") and store.read("a") == {"x": "1 %s"}
    before = store.version()
    assert store.swap("a", "x", "1 %s", "2") and store.swap("a", "x", "1 %s", "2") and store.read("a") == {"x": "2"}
    assert store.version() == before + 2
    store.write("a", "x", None)
    assert not store.swap("a", "x", "2", "3") and store.read("a") == {}, "what was forgotten stays so"


def test_the_ledger_adds_up_what_machines_write(server: Cluster, store: PostgresStore) -> None:
    with closing(PostgresStore(server.url())) as other:
        adds_up(store, other)


def test_a_batch_counts_once(store: PostgresStore) -> None:
    adds_once(store)


def test_old_days_are_deleted(store: PostgresStore) -> None:
    prunes(store)


def test_a_large_ledger_is_pruned_in_bounded_batches(server: Cluster, store: PostgresStore) -> None:
    """One statement for all of it would end at the time limit, and nothing would be deleted, tomorrow again."""
    store.add(batch(1))
    ask(server, """
        INSERT INTO sluice_ledger
        SELECT 'key', '2020-01-01', 'east', 'model-' || at, 1, 0, 0, 0, 0, 0, 0, 0 FROM generate_series(1, 25000) AS at
    """)  # fmt: skip
    ask(server, """
        CREATE TABLE deleted (lines bigint);
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO deleted SELECT count(*) FROM gone; RETURN NULL; END $$;
        CREATE TRIGGER note AFTER DELETE ON sluice_ledger
        REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION note()
    """)  # fmt: skip
    try:
        assert [store.prune("2026-01-01") for _ in range(3)] == [True, True, False]
        with psycopg.connect(server.url()) as connection:
            sizes = [size for (size,) in connection.execute("SELECT lines FROM deleted")]
            assert connection.execute("SELECT count(*) FROM sluice_ledger").fetchall() == [(4,)]
    finally:
        ask(server, "DROP FUNCTION note CASCADE; DROP TABLE deleted")
    assert sizes == [PRUNED_AT_ONCE, PRUNED_AT_ONCE, 5_000]


def test_a_missing_ledger_is_created_again(server: Cluster, store: PostgresStore) -> None:
    store.add(batch(1))
    ask(server, "DROP TABLE sluice_ledger, sluice_writers")
    with pytest.raises(StoreError):
        store.add(batch(2))
    store.add(batch(2))
    assert store.sums("2026-12-01", "2026-12-01", ("key",)) == {("team",): ONE}
    ask(server, "DROP TABLE sluice_ledger, sluice_writers")
    with pytest.raises(StoreError):
        store.sums("2026-12-01", "2026-12-01", ("key",))
    assert store.sums("2026-12-01", "2026-12-01", ("key",)) == {}, "as before the first call"


def test_machines_that_add_to_the_same_lines_wait_for_each_other_and_lose_nothing(server: Cluster) -> None:
    stores = [PostgresStore(server.url()) for _ in range(6)]

    def add(at: int) -> None:
        lines = {("k", "2026-11-28", "u", f"m{(at * 7 + each) % 40}"): Counts(1, cost=0.5) for each in range(40)}
        for number in range(1, 11):
            stores[at].add(batch(number, lines, f"w{at}"))

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(add, range(6)))
    assert stores[0].sums("2026-11-28", "2026-11-28", ("key",)) == {("k",): Counts(2400, cost=1200.0)}
    for store in stores:
        store.close()


def test_machines_that_start_together_count_every_write(server: Cluster) -> None:
    stores = [PostgresStore(server.url()) for _ in range(8)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda at: stores[at % 8].write("kind", f"name-{at % 5}", str(at)), range(64)))
    assert stores[0].version() == 64 and stores[1].read("kind").keys() == {f"name-{at}" for at in range(5)}
    for store in stores:
        store.close()


def test_a_dropped_connection_is_not_noticed(server: Cluster, store: PostgresStore) -> None:
    store.write("kind", "name", "text")
    dropped = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'sluice'"
    for read in (lambda: store.read("kind"), lambda: store.write("kind", "name", "text")):
        assert ask(server, dropped) == "SELECT 1"
        read()
    assert (store.read("kind"), store.version()) == ({"name": "text"}, 2)


def test_a_killed_server_is_reported_at_once_and_found_again(server: Cluster, store: PostgresStore) -> None:
    store.write("kind", "name", "text")
    server.kill()
    began = time.monotonic()
    for step in (store.version, lambda: store.read("kind"), lambda: store.write("kind", "name", "other")):
        assert failure(step) == "it refuses connections."
    assert time.monotonic() - began < BOUND
    server.start()
    assert store.read("kind") == {"name": "text"}


def test_a_frozen_server_costs_a_bounded_time_and_is_found_again(server: Cluster, store: PostgresStore) -> None:
    """For who is connected and who connects, and who waits for his turn; nothing is left behind."""
    store.write("kind", "name", "text")
    late = PostgresStore(server.url())
    with server.frozen(), ThreadPoolExecutor(4) as pool:
        steps = [store.version, lambda: store.write("kind", "name", "other"), late.version, late.version]
        assert set(pool.map(failure, steps)) == {"it does not answer."}
        assert failure(store.version) == "it does not answer.", "as often as it is asked"
    wait_for(lambda: works_again(store) and works_again(late))
    assert store.read("kind") == late.read("kind")
    late.close()
    wait_for(lambda: ask(server, SESSIONS) == "SELECT 1")


def test_a_stuck_host_leaves_a_turn_to_the_next(server: Cluster) -> None:
    with closing(listen("127.0.0.1", 0)[0]) as silent:
        hosts = f"host=127.0.0.1,127.0.0.1&port={silent.getsockname()[1]},{server.port}"
        store = PostgresStore(f"postgresql://sluice:{PASSWORD}@/sluice?{hosts}")
        assert store.version() == 0
        store.close()


def test_a_locked_table_costs_a_bounded_time(server: Cluster, store: PostgresStore) -> None:
    store.write("kind", "name", "text")
    with psycopg.connect(server.url()) as holder:
        holder.execute("LOCK TABLE sluice_versions")
        assert failure(store.version) == "canceling statement due to statement timeout."
    assert store.version() == 1


def test_a_user_without_the_right_to_create_needs_it_only_for_the_first_start(server: Cluster) -> None:
    owner, user = PostgresStore(server.url()), PostgresStore(server.url(user="plain"))
    ask(server, f"CREATE ROLE plain LOGIN PASSWORD '{PASSWORD}'")
    assert failure(user.version) == "permission denied for schema public."
    owner.write("kind", "name", "text")
    ask(server, "GRANT ALL ON sluice_kept, sluice_versions TO plain")
    user.write("kind", "name", "other")
    assert (owner.read("kind"), owner.version()) == ({"name": "other"}, 2)
    owner.close()
    user.close()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql://sluice:wrong@127.0.0.1:{port}/sluice", "it does not accept the user name or password."),
        ("postgresql://sluice:{password}@127.0.0.1:{port}/nowhere", "it has no such database or user."),
        ("postgresql://sluice:{password}@127.0.0.1:{free}/sluice", "it refuses connections."),
        ("postgresql://sluice:{password}@nowhere.invalid/sluice", "its host name is not found."),
        ("postgresql://sluice:{password}@127.0.0.1:{port}/sluice?sslmode=require", "no TLS connection came about."),
        ("postgresql://sluice:{password}@127.0.0.1:{port}/sluice?nowhere=1", "its address is not understood."),
        ("postgresql://sluice:{password}@127.0.0.1:nowhere/sluice", "{any}"),
    ],
)
def test_errors_say_why_without_address_or_password(server: Cluster, url: str, told: str) -> None:
    store = PostgresStore(url.format(port=server.port, free=free_port(), password=PASSWORD))
    assert failure(store.version) == told or told == "{any}"


@pytest.mark.parametrize("text", ["nul \0", "half \ud800"])
def test_a_text_that_cannot_be_kept_is_refused(store: PostgresStore, text: str) -> None:
    assert failure(lambda: store.write("kind", "name", text))
    assert (store.read("kind"), store.version()) == ({}, 0)


def test_two_machines_follow_each_other(server: Cluster, east: OpenAIDouble) -> None:
    config = CONFIG.format(url=east.url, store=server.url())
    with sluice(config) as one, sluice(config) as other, one.client() as client:
        switched = client.put("/admin/provider-settings", json={"default_upstream": "west"})
        assert switched.status_code == 200, switched.text
        assert seconds_until(lambda: said(other, "/admin/provider-settings")["default_upstream"] == "west") < 2
        persona = {"name": "pirate", "upstream": "east", "model": "gpt-4o", "system": "Arr."}
        assert client.post("/admin/personas", json=persona).status_code in (200, 201)
        assert seconds_until(lambda: names(other) == ["pirate"]) < 2
        assert client.delete("/admin/personas/pirate").status_code in (200, 204)
        assert seconds_until(lambda: names(other) == []) < 2
    with sluice(config) as later:
        assert said(later, "/admin/provider-settings")["default_upstream"] == "west"


def said(running: Running, path: str) -> Any:
    with running.client() as client:
        return client.get(path).json()


def names(running: Running) -> list[str]:
    return [each["name"] for each in said(running, "/admin/personas")["data"]]


def seconds_until(condition: Any) -> float:
    began = time.monotonic()
    wait_for(condition)
    return time.monotonic() - began


def test_calls_go_on_while_the_server_is_frozen_or_gone(server: Cluster, east: OpenAIDouble) -> None:
    hello = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}
    with sluice(CONFIG.format(url=east.url, store=server.url())) as running, running.client() as client:

        def switch(name: str) -> Any:
            return client.put("/admin/provider-settings", json={"default_upstream": name})

        def refused(why: str) -> None:
            """A change is refused within its bound, and calls are answered meanwhile as ever."""
            with ThreadPoolExecutor(1) as pool:
                began = time.monotonic()
                change = pool.submit(switch, "east")
                while not change.done():
                    asked = time.monotonic()
                    assert running.chat(hello).headers["x-sluice-upstream"] == "west" or change.done()
                    assert time.monotonic() - asked < BOUND - 1  # it does not wait for the store
                assert time.monotonic() - began < BOUND + 1
            error = change.result().json()["error"]
            assert (change.result().status_code, error["code"]) == (500, "proxy_internal")
            assert error["message"] == f"The store's PostgreSQL failed: {why}."
            assert running.chat(hello).headers["x-sluice-upstream"] == "west"

        assert switch("west").status_code == 200
        with server.frozen():
            refused("it does not answer")
        wait_for(lambda: ask(server, SESSIONS) == "SELECT 1")  # what was given up has come to its end there
        assert switch("west").status_code == 200
        server.kill()
        refused("it refuses connections")
        server.start()
        assert switch("east").status_code == 200
        assert running.chat(hello).headers["x-sluice-upstream"] == "east"


def test_a_start_with_a_stuck_store_goes_on(
    server: Cluster, east: OpenAIDouble, caplog: pytest.LogCaptureFixture
) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(CONFIG.format(url=east.url, store=server.url()))
        settings = load_settings(path, {})
        with server.frozen(), caplog.at_level(logging.ERROR, "sluice"):
            began = time.monotonic()
            app = Sluice(path, {}, settings)
            assert time.monotonic() - began < BOUND
        assert app.default_upstream() == "east"
        assert "it does not answer. Earlier choices made on /admin are not in effect." in caplog.text
        assert PASSWORD not in caplog.text
        wait_for(lambda: app.decisions.store.version() == 0)
        app.decisions.store.close()
