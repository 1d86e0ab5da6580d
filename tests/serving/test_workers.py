"""`sluice serve --workers 2`: one address and one set of metrics, even if workers die, and one clean end."""

import fcntl
import os
import re
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson
import pytest

from proxy.serving.workers import TO_DRAIN, Place, Supervisor, Worker, place_of, shared_folder
from tests.doubles.faults import Held, Status
from tests.doubles.openai import OpenAIDouble
from tests.doubles.openrouter import OpenRouterDouble
from tests.supervised import Supervised, supervised
from tests.waiting import wait_for

CONFIG = """
server: {{port: 0, drain: 3s}}
store: sqlite:///sluice.db
upstreams:
  east: {{provider: openai, base_url: {east}, api_key: sk-east}}
  west: {{provider: openai, base_url: {west}, api_key: sk-west}}
default_upstream: east
log: {{format: json, level: info}}
"""
SHARED = (
    CONFIG.replace(
        "default_up",
        "  frail: {{provider: openai, base_url: {east}, api_key: sk-east, breaker: {{failures: 1, open_for: 1h}}}}\ndefault_up",
    )
    + "routes: [{{model: kept, to: east/gpt-4o, cache: {{exact: 1h, sampled: true}}}}]\n"
)
HELLO = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}


@dataclass(slots=True, kw_only=True)
class Served(Supervised):
    """Two workers, their first upstream, and how to call them."""

    east: OpenAIDouble

    def call(self) -> str:
        """The upstream that answers a call, on a connection of its own."""
        status, headers, body = self.ask("POST", "/v1/chat/completions", HELLO)
        assert status == 200, body
        return headers["x-sluice-upstream"]

    def ask(
        self, method: str, path: str, content: Any = None, seconds: float = 10
    ) -> tuple[int, Mapping[str, str], str]:
        """One exchange: status, headers and body."""
        connection = HTTPConnection(self.url.removeprefix("http://"), timeout=seconds)
        try:
            connection.request(method, path, orjson.dumps(content), {"content-type": "application/json"})
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read().decode()
        finally:
            connection.close()

    def counted(self) -> float:
        """Calls that ended, as /metrics says."""
        _, _, text = self.ask("GET", "/metrics")
        return sum(float(number) for number in re.findall(r"^sluice_requests_total\{[^}]*\} (\S+)$", text, re.M))

    def gauge(self, name: str) -> float:
        """What /metrics says of a gauge."""
        _, _, text = self.ask("GET", "/metrics")
        return sum(float(number) for number in re.findall(rf"^{name}(?:\{{[^}}]*\}})? (\S+)$", text, re.M))


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(SHARED) as made:
        yield made


@contextmanager
def serving(
    config_yaml: str = CONFIG, files: Mapping[str, str] = {}, flags: Sequence[str] = (), **environ: str
) -> Iterator[Served]:
    """Two workers, listening, in a folder with these files; `flags`: Python's."""
    with OpenAIDouble(key="sk-east") as east, OpenAIDouble(key="sk-west") as west, TemporaryDirectory() as folder:
        config = Path(folder) / "config.yaml"
        config.write_text(config_yaml.format(east=east.url, west=west.url))
        for name, text in files.items():
            (Path(folder) / name).write_text(text)
        with supervised(partial(Served, east=east), config, flags, **environ) as made:
            wait_for(lambda: ready(made), 30)
            yield made


def ready(made: Served) -> bool:
    """Whether both workers have answered: the numbers of both are told."""
    try:
        made.ask("GET", "/livez")
    except OSError:
        return False
    return len(made.workers()) == 2 and all(map(listens, made.workers()))


def listens(pid: int) -> bool:
    """Whether a process handles the signal that tells it to drain, so that it has come up."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    caught = re.search(r"SigCgt:\s*([0-9a-f]+)", status)
    return bool(caught and int(caught[1], 16) >> (TO_DRAIN - 1) & 1)


def health(made: Served) -> list[dict[str, Any]]:
    """What the worker that happens to answer says of each upstream."""
    upstreams: list[dict[str, Any]] = orjson.loads(made.ask("GET", "/health", seconds=1)[2])["upstreams"]
    return upstreams


def all_go_to(made: Served, name: str) -> bool:
    """Whether many calls are answered by this upstream."""
    return {made.call() for _ in range(40)} == {name}


def begun(pid: int) -> bool:
    """Whether a worker is a program of its own by now, with signals of its own."""
    try:
        return b"SLUICE_WORKER" in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False


def test_their_numbers_add_up_whichever_worker_is_asked(served: Served) -> None:
    before = served.counted()
    assert {served.call() for _ in range(40)} == {"east"}
    wait_for(lambda: served.counted() == before + 40)
    assert {served.counted() for _ in range(10)} == {before + 40}


def test_the_last_calls_are_those_of_all_workers_whichever_is_asked(served: Served) -> None:
    ids = {served.ask("POST", "/v1/chat/completions", HELLO)[1]["x-request-id"] for _ in range(20)}

    def known() -> set[str]:
        return {line["id"] for line in orjson.loads(served.ask("GET", "/admin/calls")[2])["data"]}

    wait_for(lambda: all(ids <= known() for _ in range(5)))
    points = orjson.loads(served.ask("GET", "/admin/overview")[2])["traffic"]["points"]
    tallied = sum(told["calls"] for point in points for told in point["upstreams"].values())
    assert tallied == len(known())


def test_a_breaker_opened_by_one_worker_is_shown_by_every_worker(served: Served) -> None:
    def shown() -> list[str]:
        upstreams = orjson.loads(served.ask("GET", "/admin/overview")[2])["upstreams"]
        return [breaker["model"] for upstream in upstreams for breaker in upstream["breakers"]]

    served.east.script(Status(503))
    assert served.ask("POST", "/v1/chat/completions", HELLO | {"model": "frail/gpt-4o"})[0] == 503
    assert [shown() for _ in range(20)] == [["gpt-4o"]] * 20


def test_the_cache_in_memory_is_counted_and_emptied_in_all_of_them(served: Served) -> None:
    def stats() -> tuple[int, int, list[tuple[str, int, int]]]:
        found = orjson.loads(served.ask("GET", "/admin/cache")[2])
        routes = [(route["route"], route["entries"], route["hits"]) for route in found["by_route"]]
        return found["entries"], found["misses"], routes

    for number in range(20):
        question = {"role": "user", "content": f"question {number}"}
        assert served.ask("POST", "/v1/chat/completions", {"model": "kept", "messages": [question]})[0] == 200
    wait_for(lambda: all(stats() == (20, 20, [("kept", 20, 0)]) for _ in range(10)))
    assert orjson.loads(served.ask("DELETE", "/admin/cache?route=kept")[2]) == {"cleared": 20}
    assert [stats()[0] for _ in range(10)] == [0] * 10


def test_one_that_is_killed_is_replaced_and_what_it_counted_stays(served: Served) -> None:
    before = served.counted()
    for _ in range(40):
        served.call()
    wait_for(lambda: served.counted() == before + 40)
    victim = max(served.workers())
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: len(served.workers() - {victim}) == 2 and all(map(listens, served.workers())), 20)
    wait_for(lambda: served.counted() == before + 40)
    for _ in range(20):
        served.call()
    wait_for(lambda: served.counted() == before + 60)


def test_a_switched_default_is_followed_by_all(served: Served) -> None:
    for name in ("west", "east"):
        switch = {"default_upstream": name}
        status, _, body = served.ask("PUT", "/admin/provider-settings", switch)
        assert status == 200, body
        wait_for(partial(all_go_to, served, name), 2)


@contextmanager
def without_the_first(made: Served) -> Iterator[None]:
    """The worker that does what one alone does stands still, so that the other answers."""
    first = min(made.workers())
    os.kill(first, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(first, signal.SIGCONT)


def test_all_know_what_the_first_learns_of_upstreams() -> None:
    with OpenRouterDouble() as router:
        more = f"""\
  gone: {{{{provider: openai, base_url: "http://127.0.0.1:9/v1"}}}}
  listed: {{{{provider: openrouter, base_url: {router.url}, api_key: {router.key}, models: [openai/gpt-4o]}}}}
default_up"""
        with serving(CONFIG.replace("default_up", more)) as served:

            def learnt() -> tuple[int, list[str]]:
                try:
                    (entry,) = orjson.loads(served.ask("GET", "/v1/models?upstream=listed", seconds=1)[2])["data"]
                    return entry["context_length"], [each["name"] for each in health(served) if not each["healthy"]]
                except TimeoutError:  # the one that stands still has taken the connection
                    return 0, []

            wait_for(lambda: served.gauge("sluice_upstream_up") == 3 and learnt() == (128_000, ["gone"]))
            with without_the_first(served):
                wait_for(lambda: learnt() == (128_000, ["gone"]))


def test_one_that_reloads_later_knows_what_the_first_learnt_by_its_own_reload() -> None:
    with serving() as made:

        def reloads() -> int:
            return sum("config.yaml was reloaded" in line for line in list(made.lines))

        def learnt() -> list[bool]:
            try:
                models = orjson.loads(made.ask("GET", "/v1/models?upstream=added", seconds=1)[2])["data"]
                return [bool(models), *(each["healthy"] for each in health(made))]
            except TimeoutError:  # the one that stands still has taken the connection
                return []

        first, config = min(made.workers()), Path(f"/proc/{made.process.pid}/cwd").resolve() / "config.yaml"
        added = f"""\
  added: {{provider: openai, base_url: {made.east.url}, api_key: sk-east}}
  gone: {{provider: openai, base_url: "http://127.0.0.1:9/v1"}}
default_up"""
        config.write_text(config.read_text().replace("default_up", added))
        os.kill(first, signal.SIGHUP)
        wait_for(lambda: reloads() == 2)  # the other one by its watch
        with without_the_first(made):
            wait_for(lambda: learnt() == [True, True, True, True, False], 3)


def test_a_reload_that_one_is_asked_for_reaches_all(served: Served) -> None:
    def reloads() -> int:
        return sum("config.yaml was reloaded" in line for line in list(served.lines))

    before, counted = reloads(), served.gauge("sluice_config_reloads_total")
    for asked in range(1, 6):  # by the one that counts, and by the other; the file stays as it is for those who watch
        assert served.ask("POST", "/admin/reload")[0] == 200
        wait_for(lambda: reloads() == before + 2 * asked)  # noqa: B023
    assert served.gauge("sluice_config_reloads_total") == counted + 5


def test_a_reload_of_all_counts_as_one_whoever_of_them_has_died_before(served: Served) -> None:
    def reloads() -> int:
        return sum("config.yaml was reloaded" in line for line in list(served.lines))

    before = served.workers()
    for _ in range(2):
        counted, said = served.gauge("sluice_config_reloads_total"), reloads()
        served.process.send_signal(signal.SIGHUP)
        wait_for(lambda: reloads() == said + 2)  # noqa: B023
        assert served.gauge("sluice_config_reloads_total") == counted + 1
        for pid in before & served.workers():
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: len([pid for pid in served.workers() - before if listens(pid)]) == 2, 20)


def test_a_reload_does_not_end_a_worker_that_starts(served: Served) -> None:
    before = served.workers()
    os.kill(max(before), signal.SIGKILL)
    (new,) = wait_for(lambda: {pid for pid in served.workers() - before if begun(pid)})
    os.kill(new, signal.SIGHUP)
    wait_for(lambda: listens(new) or not Path(f"/proc/{new}").exists(), 20)
    assert new in served.workers()


def test_sigterm_ends_all_with_exit_code_0(served: Served) -> None:  # the last one: nothing runs behind it
    workers = served.workers()
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(15) == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)


def test_a_signal_to_all_of_them_at_once_lets_calls_finish() -> None:
    """As Ctrl-C and systemd send it."""
    with serving() as served, ThreadPoolExecutor() as pool:
        served.east.script(Held())
        running = pool.submit(served.call)
        wait_for(lambda: served.east.calls)
        os.killpg(served.process.pid, signal.SIGTERM)
        wait_for(lambda: "".join(served.lines).count("draining") == 2)
        time.sleep(0.5)  # the parent has told them too by now, which nothing shows
        served.east.release()
        assert running.result(10) == "east"
        assert served.process.wait(10) == 0


def test_none_is_started_again_that_has_ended_by_the_signal_which_its_parent_got_too() -> None:
    with serving() as served:
        workers = served.workers()
        os.kill(served.process.pid, signal.SIGSTOP)  # it is late
        os.killpg(served.process.pid, signal.SIGTERM)
        wait_for(lambda: all("State:\tZ" in Path(f"/proc/{pid}/status").read_text() for pid in workers))
        os.kill(served.process.pid, signal.SIGCONT)
        assert served.process.wait(10) == 0
        assert "started again" not in "".join(served.lines)


def test_one_that_is_found_ended_behind_the_signal_is_let_be(tmp_path: Path) -> None:
    """The signal may come between the parent's look at its signals and that at its workers."""
    supervisor, worker = Supervisor((sys.executable, "-c", ""), 1, 1.0), Worker(Place(0, (), tmp_path))
    supervisor._keep_running(worker)
    begun = worker.process
    assert begun is not None and begun.wait(10) == 0
    supervisor._note(signal.SIGTERM, None)
    supervisor._keep_running(worker)
    assert worker.process is begun


def test_the_embedded_model_lives_as_long_as_any_of_them_is_answered_by_it() -> None:
    config = CONFIG.replace("drain: 3s", "drain: 90s").replace(
        "default_up", "  local: {{provider: llamacpp}}\ndefault_up"
    )
    with serving(config) as served, ThreadPoolExecutor(8) as pool:
        served.call()
        wait_for(lambda: served.gauge("sluice_upstream_up") == 3, 20)
        wait_for(lambda: all(each["healthy"] for _ in range(40) for each in health(served)), 20)
        said = {"model": "local/smollm2-135m-instruct", "stream": True, "max_tokens": 100, "ignore_eos": True}
        said["messages"] = [{"role": "user", "content": "Tell a long story."}]
        # Those that find no free slot wait for as long as a slow machine takes for a hundred tokens.
        running = [pool.submit(served.ask, "POST", "/v1/chat/completions", said, 80) for _ in range(6)]
        wait_for(lambda: served.gauge("sluice_streams_open") == 6, 20)
        served.process.send_signal(signal.SIGTERM)
        for each in running:
            status, _, body = each.result(90)
            assert (status, body[-14:]) == (200, "data: [DONE]\n\n"), body[-300:]
        assert served.process.wait(10) == 0


def test_together_they_tell_no_more_series_than_one_may() -> None:
    models = [f"model-{number}" for number in range(400)]
    catalogue = "key: sk-east, models: [" + ", ".join(models) + "]}}"
    config = CONFIG.replace("key: sk-east}}", catalogue)
    with serving(config) as served, ThreadPoolExecutor(8) as pool:
        calls = [HELLO | {"model": f"east/{model}"} for model in models]
        assert {*pool.map(lambda call: served.ask("POST", "/v1/chat/completions", call)[0], calls)} == {404}
        told = [served.ask("GET", "/metrics")[2] for _ in range(6)]
        assert [len(re.findall("^sluice", text, re.M)) < 10_000 for text in told] == [True] * 6
        assert served.counted() == len(models)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel does it")
def test_workers_end_with_a_parent_that_was_killed() -> None:
    with serving() as served:
        workers = served.workers()
        served.process.kill()
        served.process.wait(15)
        wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), 15)


def test_they_are_found_where_the_parent_was_whatever_lies_around() -> None:
    with serving(files={"proxy.py": "raise SystemExit('this is not Sluice')"}, flags=["-P"]) as served:
        assert served.call() == "east"


def test_a_long_tmpdir_keeps_none_from_starting(tmp_path: Path) -> None:
    far = tmp_path / ("far" * 30)  # too far for the path of a socket
    far.mkdir()
    with serving(TMPDIR=str(far)) as served:
        served.call()
        wait_for(lambda: served.counted() == 1)


def test_nobody_tidies_up_what_they_share() -> None:
    with shared_folder() as folder:
        other = os.open(folder, os.O_RDONLY)
        with pytest.raises(BlockingIOError):  # as systemd-tmpfiles asks before it looks into a folder
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(other)
    assert not folder.exists()


def test_a_place_is_read_as_it_was_written() -> None:
    place = Place(1, (3, 4), Path("/tmp/a:b"))
    assert place_of(place.text()) == place
    assert place_of("") is None
    assert place_of(None) is None
    assert (Place(0, (), Path()).leads, place.leads) == (True, False)
