"""The commands as a shell sees them: what they print, their exit codes, and how `serve` comes and goes."""

import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import orjson
import pytest

from proxy.serving.listening import listen
from tests.doubles.faults import Fine, Held, HoldAfter
from tests.doubles.openai import OpenAIDouble
from tests.doubles.pacing import Paced
from tests.running import free_port
from tests.waiting import wait_for

ROOT = Path(__file__).parent.parent.parent
CONFIG = """
server: {{port: 0, drain: {drain}}}
upstreams:
  east: {{provider: openai, base_url: {east}, api_key: sk-east, limits: {{gpt-4o: {{context: 1000}}}}}}
  off: {{provider: openrouter, api_key: "${{OPENROUTER_API_KEY:-}}"}}
default_upstream: east
routes:
  - model: house
    to: [east/gpt-4o, off/openai/gpt-4o]
    request: {{default: {{temperature: 0.5}}}}
  - {{prefix: gpt-, to: east}}
tests:
  - {{model: house, expect: [east/gpt-4o, off/openai/gpt-4o]}}
"""
HELLO = {"model": "house", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture
def config(east: OpenAIDouble, tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG.format(east=east.url, drain="10s"))
    return path


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "proxy", *map(str, words)]


def environment(**more: str) -> Mapping[str, str]:
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "NO_PROXY": "*"} | more


def run(*words: object, cwd: Path | None = None, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words), cwd=cwd, env=environment(**environ), capture_output=True, text=True, timeout=30
    )


# check


def test_check_prints_the_routing_table(config: Path) -> None:
    done = run("check", config)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert any(re.search(r"east\s+openai\s+on", line) for line in lines)
    assert any(re.search(r"off\s+openrouter\s+off: OPENROUTER_API_KEY is not set", line) for line in lines)
    routes = [line.split("->")[0].split()[-1] for line in lines if "->" in line]
    assert routes == ["house", "east/", "gpt-", "off/", "default"], "exact names, then the longest prefix"
    assert "tests: 1 passed" in done.stdout


def test_check_takes_config_yaml_where_it_stands(config: Path) -> None:
    assert run("check", cwd=config.parent).returncode == 0


@pytest.mark.parametrize(
    ("old", "new", "where", "says"),
    [
        ("prefix: gpt-", "prefiks: gpt-", ":11:6", 'unknown key; did you mean "prefix"'),
        ("drain: 10s", "drain: soon", ":2:19", 'a duration such as 250ms, 5s, 10m or 1h, got "soon"'),
        ("expect: [east/gpt-4o,", "expect: [east/gpt-4,", ":13:5", "tests.0: house should lead to east/gpt-4,"),
    ],
)
def test_a_bad_file_is_reported_by_line_and_column(config: Path, old: str, new: str, where: str, says: str) -> None:
    config.write_text(config.read_text().replace(old, new, 1))
    refused(run("check", config), f"{config}{where}", says)


def test_no_command_begins_with_a_bad_file(config: Path) -> None:
    config.write_text("upstreems: {}\n")
    for words in (("explain", "house"), ("models",), ("serve",)):
        refused(run(*words, "--config", config), f"{config}:1:1", "upstreams")


def refused(done: subprocess.CompletedProcess[str], where: str, says: str) -> None:
    """Exit code 2, and one clear text of where and what."""
    assert (done.returncode, done.stdout) == (2, "")
    assert where in done.stderr and says in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    done = run("check", tmp_path / "nothing.yaml")
    assert done.returncode == 2 and "nothing.yaml" in done.stderr and "Traceback" not in done.stderr


def test_a_mistyped_option_prints_the_usage_and_exits_with_2() -> None:
    done = run("serve", "--port", "many")
    assert done.returncode == 2 and "usage: sluice" in done.stderr


def test_the_version_is_printed() -> None:
    assert re.fullmatch(r"sluice \d+\.\d+\.\d+\S*\n", run("--version").stdout)


# explain


def test_explain_says_what_would_be_sent_and_sends_nothing(config: Path, east: OpenAIDouble, tmp_path: Path) -> None:
    body = tmp_path / "body.json"
    body.write_bytes(orjson.dumps({"messages": HELLO["messages"], "top_p": 0.5}))
    seen = len(east.requests)
    done = run("explain", "house", "--config", config, "--body", body)
    assert done.returncode == 0
    said = orjson.loads(done.stdout)
    first, second = said["targets"]
    assert (first["upstream"], first["model"], first["usable"]) == ("east", "gpt-4o", True)
    assert first["body"] == {"model": "gpt-4o", "messages": HELLO["messages"], "top_p": 0.5, "temperature": 0.5}
    assert "default temperature" in first["changes"]
    assert second["usable"] is False and "OPENROUTER_API_KEY" in second["reason"]
    assert len(east.requests) == seen


def test_explain_of_a_name_that_leads_nowhere(config: Path) -> None:
    config.write_text(config.read_text().replace("default_upstream: east", ""))
    done = run("explain", "nobody", "--config", config)
    assert done.returncode == 1 and "nobody" in done.stderr


def test_explain_of_a_body_that_is_none(config: Path, tmp_path: Path) -> None:
    body = tmp_path / "body.json"
    for text in ("{", "[]"):
        body.write_text(text)
        assert run("explain", "house", "--config", config, "--body", body).returncode == 2
    for name, message in (("", "`model` must be a string"), ("caf\udce9", r"the model name 'caf\udce9' is not UTF-8")):
        done = run("explain", name, "--config", config)
        assert done.returncode == 2 and done.stderr.startswith(message)


# models


def test_models_lists_what_each_upstream_has(config: Path) -> None:
    done = run("models", "--config", config)
    assert done.returncode == 0
    assert "east (openai): 8 models, fetched" in done.stdout
    assert re.search(r"east/gpt-4o\s+context\s+1000", done.stdout)
    assert "OPENROUTER_API_KEY is not set" in done.stdout


def test_models_fails_where_an_upstream_does_not_answer(config: Path, east: OpenAIDouble) -> None:
    config.write_text(config.read_text().replace(east.url, "http://127.0.0.1:1/v1"))
    done = run("models", "--config", config, "--upstream", "east")
    assert done.returncode == 1 and "east (openai): 0 models, unknown: " in done.stdout


# serve


@contextmanager
def serving(
    config: Path, *words: object, most_files: int = 0, **environ: str
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A proxy of its own process and its address, as its log tells it. `most_files`: that it may open."""
    said = command("serve", "--config", config, *words)
    if most_files:
        said = ["sh", "-c", f'ulimit -n {most_files}; exec "$@"', "sh", *said]
    process = subprocess.Popen(said, env=environment(**environ), stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        told: list[str] = []
        for line in process.stderr:
            told.append(line)
            if found := re.search(r"http://[0-9.:\[\]]+:\d+", line):
                break
        else:
            raise AssertionError("".join(told))
        yield process, found[0]
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def client(url: str) -> httpx.Client:
    return httpx.Client(base_url=url, trust_env=False, verify=False, timeout=20)


def test_a_served_call_is_answered_and_sigterm_ends_it_all_well(config: Path) -> None:
    with serving(config) as (process, url), client(url) as http:
        assert http.post("/v1/chat/completions", json=HELLO).status_code == 200
        assert http.get("/readyz").status_code == 200
        health = run("healthcheck", "--port", url.rpartition(":")[2])
        assert (health.returncode, health.stdout) == (0, "ready\n")
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def test_a_page_of_an_allowed_origin_can_read_why_a_request_got_no_further_than_the_connection(config: Path) -> None:
    config.write_text(
        config.read_text().replace("drain: 10s", "drain: 10s, max_body: 1KB, cors: [http://page.example]")
    )
    asks: list[dict[str, Any]] = [{"content": "x" * 2000}, {"json": HELLO, "headers": {"x-long": "x" * 70_000}}]
    with serving(config) as (_, url), client(url) as http:
        for origin, shown in (("http://page.example", "http://page.example"), ("http://other.example", None)):
            for ask, status in zip(asks, (413, 431), strict=True):
                ask["headers"] = {**ask.get("headers", {}), "origin": origin}
                answer = http.post("/v1/chat/completions", **ask)
                assert answer.status_code == status
                assert answer.headers.get("access-control-allow-origin") == shown


def test_sigterm_before_it_listens_ends_it_well(config: Path) -> None:
    config.unlink()
    os.mkfifo(config)  # reading its configuration, it waits for what is never written
    process = subprocess.Popen(
        command("serve", "--config", config), env=environment(), stderr=subprocess.PIPE, text=True
    )
    held = wait_for(lambda: opened(config), 30)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=10)
    os.close(held)
    assert (process.returncode, errors) == (0, "sluice: stopped by SIGTERM while starting\n")


def opened(fifo: Path) -> int | None:
    """The end to write to, once somebody reads."""
    try:
        return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return None


def test_a_running_stream_may_finish_after_sigterm(config: Path, east: OpenAIDouble) -> None:
    east.script(HoldAfter(3))
    with serving(config) as (process, url), client(url) as http:
        with http.stream("POST", "/v1/chat/completions", json=HELLO | {"stream": True}) as answer:
            pieces = answer.iter_text()
            text = next(pieces)
            process.send_signal(signal.SIGTERM)
            wait_for(lambda: refuses(url))
            east.release()
            text += "".join(pieces)
        assert text.endswith("data: [DONE]\n\n")
        assert process.wait(10) == 0


def test_calls_that_do_not_finish_in_time_get_proxy_draining(config: Path, east: OpenAIDouble) -> None:
    config.write_text(CONFIG.format(east=east.url, drain="200ms"))
    east.script(HoldAfter(3))
    with serving(config) as (process, url), client(url) as http:
        with http.stream("POST", "/v1/chat/completions", json=HELLO | {"stream": True}) as answer:
            pieces = answer.iter_text()
            text = next(pieces)
            process.send_signal(signal.SIGTERM)
            text += "".join(pieces)
        assert '"proxy_draining"' in text.rstrip().rpartition("\n")[2] and "[DONE]" not in text
        assert process.wait(10) == 0


def test_a_second_signal_ends_all_at_once(config: Path, east: OpenAIDouble) -> None:
    seen = len(east.calls)
    east.script(Held())
    with serving(config) as (process, url), waiting(url):
        wait_for(lambda: len(east.calls) > seen)
        process.send_signal(signal.SIGTERM)
        wait_for(lambda: refuses(url))
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0


def test_further_signals_until_the_very_end_do_not_change_the_exit_code(config: Path) -> None:
    with serving(config) as (process, _):
        while process.poll() is None:
            process.send_signal(signal.SIGTERM)
            time.sleep(0.0005)
        assert process.returncode == 0


def refuses(url: str) -> bool:
    """Whether no new connection gets an answer of 200."""
    try:
        with client(url) as http:
            return http.get("/readyz").status_code == 503
    except httpx.TransportError:
        return True


@contextmanager
def waiting(url: str) -> Iterator[socket.socket]:
    """A call whose answer nobody reads."""
    host, port = url.removeprefix("http://").split(":")
    body = orjson.dumps(HELLO)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n"
    with socket.create_connection((host, int(port)), timeout=10) as sock:
        sock.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode() + body)
        yield sock


def test_a_port_in_use_is_a_failure(config: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = run("serve", "--config", config, "--port", taken.getsockname()[1])
    assert done.returncode == 1 and "in use" in done.stderr and "Traceback" not in done.stderr


def test_sighup_reloads(config: Path) -> None:
    with serving(config) as (process, url), client(url) as http:
        config.write_text(config.read_text().replace("model: house", "model: palace"))
        process.send_signal(signal.SIGHUP)
        asked = HELLO | {"model": "palace"}
        wait_for(lambda: http.post("/v1/chat/completions", json=asked).headers.get("x-sluice-route") == "palace")


def test_the_log_is_json_where_the_locale_is_not_utf_8(config: Path) -> None:
    config.write_text(config.read_text().replace("house", "café"), encoding="utf-8")
    with serving(config, PYTHONIOENCODING="ascii") as (process, url), client(url) as http:
        assert http.post("/v1/chat/completions", json=HELLO | {"model": "café"}).status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        assert "café" in [json.loads(line).get("route") for line in process.stderr]


def test_a_reload_changes_what_is_logged_and_warns_of_what_it_cannot_change(config: Path) -> None:
    with serving(config) as (process, url), client(url) as http:
        text = config.read_text()
        config.write_text(text.replace("drain: 10s", "drain: 9s, max_body: 30MB") + "log: {level: warning}\n")
        assert http.post("/admin/reload").status_code == 200
        assert http.post("/v1/chat/completions", json=HELLO).status_code == 200
        assert http.post("/v1/chat/completions", json={"model": 5}).status_code == 400
        config.write_text(text.replace("drain: 10s", "drain: 9s, max_body: 30MB"))
        assert http.post("/admin/reload").status_code == 200
        assert http.post("/v1/chat/completions", json=HELLO).status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        lines = [json.loads(line) for line in process.stderr]
    told = [line["message"] for line in lines if "a restart is needed" in line["message"]]
    assert told == [
        "server.drain has changed: a restart is needed",
        "server.max_body is larger than at startup: a restart is needed",
    ]
    assert [line["status"] for line in lines if line["message"] == "call"] == [400, 200]


def test_prompts_and_answers_are_logged_only_where_the_configuration_says_so(config: Path, east: OpenAIDouble) -> None:
    streamed = HELLO | {"stream": True}
    with serving(config) as (process, url), client(url) as http:
        http.post("/v1/chat/completions", json=HELLO)
        config.write_text(config.read_text() + "log: {content: true}\n")
        assert http.post("/admin/reload").status_code == 200
        east.script(Fine(), Paced(0.002))
        answers = [http.post("/v1/chat/completions", json=asked).text for asked in (HELLO, streamed)]
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        before, *behind = [line for line in map(json.loads, process.stderr) if line["message"] == "call"]
    assert not {"prompt", "answer"} & before.keys()
    assert [json.loads(line["prompt"]) for line in behind] == [HELLO, streamed]
    assert [line["answer"] for line in behind] == answers


def test_a_process_that_may_open_few_files_refuses_in_words_what_is_too_much(config: Path) -> None:
    with serving(config, most_files=64) as (_, url):
        port, refused = int(url.rpartition(":")[2]), b""
        with ExitStack() as opened:
            for _ in range(16):
                opened.enter_context(socket.create_connection(("127.0.0.1", port)))
            more = opened.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
            while piece := more.recv(4096):
                refused += piece
        assert refused.startswith(b"HTTP/1.1 503 ") and b'"proxy_overloaded"' in refused
        with client(url) as http:
            wait_for(lambda: http.post("/v1/chat/completions", json=HELLO).status_code == 200)


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="this machine has no IPv6")
def test_healthcheck_of_one_that_listens_by_ipv6_alone(config: Path) -> None:
    for options in (("--host", "::1"), ("--host", "[::1]"), ("--host", "::1", "--workers", "2")):
        with serving(config, *options) as (_, url):
            port = url.removeprefix("http://[::1]:")
            wait_for(lambda: run("healthcheck", "--port", port).stdout == "ready\n", 20)  # noqa: B023


def test_healthcheck_of_one_that_listens_elsewhere(config: Path) -> None:
    with serving(config, "--host", "127.0.0.2") as (_, url):
        port = url.rpartition(":")[2]
        assert run("healthcheck", "--port", port).stdout == "not ready (no answer)\n"
        assert run("healthcheck", "--host", "127.0.0.2", "--port", port).stdout == "ready\n"


def test_healthcheck_of_one_that_takes_no_connection_anywhere_is_over_in_time() -> None:
    with ExitStack() as opened:
        for sock in listen("localhost", port := free_port()):
            opened.enter_context(sock)
        began = monotonic()
        assert run("healthcheck", "--port", port).returncode == 1
        assert monotonic() - began < 5, "two seconds, and Python's start"


def test_healthcheck_fails_where_nothing_listens() -> None:
    done = run("healthcheck", "--port", 1)
    assert (done.returncode, done.stdout) == (1, "not ready (no answer)\n"), done.stderr


@pytest.mark.parametrize("port", ["0", "99999", "soon"])
def test_healthcheck_of_no_port(port: str) -> None:
    done = run("healthcheck", "--port", port)
    assert done.returncode == 2
    assert f"argument --port: expected a port from 1 to 65535, got '{port}'" in done.stderr


# what any command may meet


@pytest.mark.parametrize("words", [("check",), ("explain", "house"), ("--help",)])
def test_a_reader_that_has_gone_is_a_quiet_failure(config: Path, words: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        command(*words), cwd=config.parent, env=environment(), stdout=writer, stderr=subprocess.PIPE, timeout=30
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("words", [("check",), ("explain", "house")])
def test_a_full_disk_is_reported_in_one_line(config: Path, words: tuple[str, ...]) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            command(*words), cwd=config.parent, env=environment(), stdout=full, stderr=subprocess.PIPE, timeout=30
        )
    assert done.returncode == 1
    assert re.fullmatch(rb"sluice: .*No space left on device\n", done.stderr), done.stderr


@pytest.mark.parametrize(
    "words", [("check",), ("selftest", "--only", "4", "--clock-scale", "0.05"), ("explain", "house")]
)
def test_a_closed_stdout_is_no_matter(config: Path, words: tuple[str, ...]) -> None:
    shell = ["sh", "-c", 'exec "$@" >&-', "sh", *command(*words)]
    done = subprocess.run(shell, cwd=config.parent, env=environment(), stderr=subprocess.PIPE, timeout=30)
    assert (done.returncode, done.stderr) == (0, b"")
    shell[2] = 'exec "$@" 2>&-'
    assert subprocess.run(shell, cwd=config.parent, env=environment(), capture_output=True, timeout=30).returncode == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_it_serves_without_any_standard_stream(config: Path, workers: int) -> None:
    port = free_port()
    shell = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *command("serve", "--port", port, "--workers", workers)]
    process = subprocess.Popen(shell, cwd=config.parent, env=environment())
    try:
        wait_for(lambda: run("healthcheck", "--port", port).returncode == 0 or process.poll() is not None, 60)
        with client(f"http://127.0.0.1:{port}") as http:
            assert http.post("/v1/chat/completions", json=HELLO).status_code == 200
    finally:
        process.terminate()
        assert process.wait(20) == 0


@pytest.mark.parametrize("gone", [True, False], ids=["gone", "stuck"])
def test_it_ends_well_even_if_nobody_reads_its_log(config: Path, gone: bool) -> None:
    with serving(config) as (process, url), client(url) as http:
        assert process.stderr is not None
        if gone:
            process.stderr.close()
        else:
            fcntl.fcntl(process.stderr, fcntl.F_SETPIPE_SZ, 4096)
        for _ in range(20):
            assert http.post("/v1/chat/completions", json=HELLO).status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


@pytest.mark.parametrize("words", [("check",), ("explain", "家")])
def test_a_terminal_without_letters_for_a_name_ends_no_command(config: Path, words: tuple[str, ...]) -> None:
    config.write_text(config.read_text().replace("house", "家"))
    done = run(*words, cwd=config.parent, PYTHONIOENCODING="iso-8859-1")
    assert (done.returncode, done.stderr) == (0, "") and r"\u5bb6" in done.stdout


def test_ctrl_c_ends_a_command_without_a_traceback(config: Path, east: OpenAIDouble) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        config.write_text(config.read_text().replace(east.url, f"http://127.0.0.1:{silent.getsockname()[1]}/v1"))
        process = subprocess.Popen(
            command("models", "--config", config), env=environment(), stderr=subprocess.PIPE, text=True
        )
        asked, _ = silent.accept()
        process.send_signal(signal.SIGINT)
        assert (process.communicate(timeout=10)[1], process.returncode) == ("", 1)
        asked.close()
