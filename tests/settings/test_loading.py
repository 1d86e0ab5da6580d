"""A whole file: every problem at once, each at its place."""

from pathlib import Path

import pytest

from proxy.settings import ConfigError, load
from tests.settings.facts import PROVIDERS, SMALL, loaded, problems


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("server: {port: 80x}", '3:10: server.port: expected a whole number, got "80x"'),
        ("server: {port: 70000}", "3:10: server.port: expected at most 65535, got 70000"),
        ("server: {port: 80.5}", "3:10: server.port: expected a whole number, got 80.5"),
        ("server: {port: true}", "3:10: server.port: expected a whole number, got true"),
        ("server: {port: '${PORT}'}", '3:10: server.port: expected a whole number, got "${PORT}"'),
        ("server: {hots: x}", '3:10: server.hots: unknown key; did you mean "host"?'),
        (
            "server:\n  timeouts: {zzz: 1s}",
            "4:14: server.timeouts.zzz: unknown key; known here: body, header, write",
        ),
        ("sever: {}", '3:1: sever: unknown key; did you mean "server"?'),
        ("server: {ping: 5}", "3:10: server.ping: expected a duration such as 250ms, 5s, 10m or 1h, got 5"),
        ("server: {ping: 0s}", '3:10: server.ping: expected a duration of more than 0s, got "0s"'),
        ("server: {max_body: 20}", "3:10: server.max_body: expected a size such as 64KB, 20MB or 1GB, got 20"),
        (
            "server: {cors: ['https://h/']}",
            "3:17: server.cors.0: expected an origin such as https://app.example.com, without a path, or *, "
            'got "https://h/"',
        ),
        ("server: 5", "3:1: server: expected a mapping, got 5"),
        ("routes: {}", "3:1: routes: expected a list, got a mapping"),
        (
            "access: {keys: opne}",
            '3:10: access.keys: expected one of open, required, got "opne"; did you mean "open"?',
        ),
        (
            "access: {keys: on}",
            '3:10: access.keys: expected one of open, required, got on, which YAML reads as true; did you mean "open"?',
        ),
        ("access: {client_keys: [12345]}", "3:24: access.client_keys.0: expected text, got a number: put it in quotes"),
        ("access: {admin_token: no}", "3:10: access.admin_token: expected text, got true or false: put it in quotes"),
        (
            "default_upstream: no",
            "3:1: default_upstream: expected text, got no, which YAML reads as false: put it in quotes",
        ),
        ("log: {content: maybe}", '3:7: log.content: expected true or false, got "maybe"'),
        (
            "defaults: {retry: {attempts: 010}}",
            "3:20: defaults.retry.attempts: 010 is not a plain decimal number (YAML may read it as octal, base 60 or the "
            "like): put it in quotes if it is text",
        ),
        (
            "defaults: {retry: {budget: 0.2}}",
            "3:20: defaults.retry.budget: expected a share such as 20%, at most 100%, got 0.2",
        ),
        ("routes: [{prefix: p}]", "3:10: routes.0.to: this key is required"),
        ("routes: [{prefix: p, to: []}]", "3:22: routes.0.to: must not be empty"),
        ("routes: [{prefix: p, to: {upstrem: o}}]", '3:27: routes.0.to.upstrem: unknown key; did you mean "upstream"?'),
        (
            "routes: [{prefix: p, to: 'o/{name}'}]",
            "3:22: routes.0.to: expected a model name with no placeholders but {model} (as requested) and {rest} "
            '(what follows the prefix), got "o/{name}"',
        ),
        ("tests: [{model: m}]", "3:9: tests.0.expect: this key is required"),
        ("tests: [{model: m, expect: []}]", "3:20: tests.0.expect: must not be empty"),
        ("tests: [m]", '3:9: tests.0: expected a mapping, got "m"'),
        (
            "store: mysql://u:hunter2@h/d",
            "3:1: store: expected sqlite:///file.db or postgresql://user:password@host/database",
        ),
        (
            "access: {admin_token: 1234_5678}",
            "3:10: access.admin_token: this value is not a plain decimal number (YAML may read it as octal, base 60 or the "
            "like): put it in quotes if it is text",
        ),
        (
            "access: {admin_token: 'schl\u00fcssel'}",
            "3:10: access.admin_token: expected a key of printable ASCII characters without spaces around it",
        ),
        (
            'personas: {p: {upstream: o, model: m, system: "a \\ud800"}}',
            "personas.p.system: half of a surrogate pair is not a valid character",
        ),
        (
            "routes: [{prefix: p, to: o, request: {set: {messages.99999999999.content: z}}}]",
            "expected list indexes of at most 1000",
        ),
        ("log: {level: info}\nlog: {}", "4:1: log: duplicate key, first on line 3"),
        (
            "access: {admin_token: '${TOKEN}'}",
            "3:10: access.admin_token: TOKEN is not set, neither in the environment nor in .env (if it may be empty: ${TOKEN:-})",
        ),
        (
            'routes:\n  - prefix: p\n    to: o\n    request:\n      headers:\n        set:\n          x: a\n          y: "canary\\n"',
            "10:11: routes.0.request.headers.set.y: a header value may not contain line breaks or characters"
            " outside Latin-1",
        ),
        (
            "vapi: {hmac: {timestamp_header: ''}}",
            '3:15: vapi.hmac.timestamp_header: expected header names of letters, digits and dashes, got ""',
        ),
        (
            "vapi: {secret: '${KEY:-}'}",
            "3:8: vapi.secret: the file that KEY_FILE names cannot be read: No such file or directory",
        ),
    ],
)
def test_a_problem_has_its_position_and_what_was_expected(tmp_path: Path, text: str, found: str) -> None:
    lines = problems(tmp_path, f"{SMALL}{text}\n", {"PORT": "canary", "KEY_FILE": "none"})
    assert any(line == found or line.endswith(found) for line in lines)
    assert "canary" not in "".join(lines) and "hunter2" not in "".join(lines)
    assert len(lines) == (2 if "upstrem" in text else 1)  # the misspelt key is missing, too


@pytest.mark.parametrize("text", ["o: {provider: openrouter}", "o: {provider: openrouter, api_key: '${KEY}'}"])
def test_a_key_that_no_header_can_carry_is_an_error(tmp_path: Path, text: str) -> None:
    (line,) = problems(tmp_path, f"upstreams: {{{text}}}\n", dict.fromkeys(("OPENROUTER_API_KEY", "KEY"), "canary\r"))
    assert "upstreams.o.api_key: expected a key of printable ASCII characters" in line and "canary" not in line


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    text = """server: {port: x}
upstreams:
  a: {provider: opnai}
  b: {provider: ollama, base_url: '${NONE}', timeout: 5s}
default_upstream: c
routes:
  - prefix: p
  - prefix: q
    to: [a, x/y]
  - prefix: q
    to: a
tests:
  - {model: m, expect: x/m}
"""
    (tmp_path / ".env").write_text("rubbish\n")
    lines = problems(tmp_path, text)
    assert [line.split(": ")[1] for line in lines[:-1]] == [
        "server.port",
        "upstreams.a.provider",
        "upstreams.b.base_url",
        "upstreams.b.timeout",
        "default_upstream",
        "routes.0.to",
        "routes.1.to.1",
        "routes.2.prefix",
        "tests.0.expect",
    ]
    assert lines[-1].endswith(".env:1:1: expected KEY=value")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "1:1: upstreams: this key is required"),
        ("upstreams:\n", "1:1: upstreams: expected a mapping, got nothing"),
        ("just text\n", "1:1: expected a mapping, got text"),
        ("- a\n", "1:1: expected a mapping, got a list"),
        ("a: [1\n", "1:4: a bracket or brace is not closed"),
        ("upstreams:\n\to: x\n", "2:1: a tab where YAML allows only spaces"),
    ],
)
def test_files_without_settings_are_errors(tmp_path: Path, text: str, found: str) -> None:
    (line,) = problems(tmp_path, text)
    assert line.replace('"just text"', "text") == found


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "config.yaml", {}, PROVIDERS)
    assert str(caught.value) == f"{tmp_path}/config.yaml: cannot be read: No such file or directory"


def test_a_file_in_another_encoding(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_bytes(b"a: b\nc: \xff\n")
    with pytest.raises(ConfigError, match="config.yaml:2:4: the file is not UTF-8"):
        load(tmp_path / "config.yaml", {}, PROVIDERS)


def test_the_environment_reaches_every_kind_of_value(tmp_path: Path) -> None:
    text = """server: {port: '${PORT}', max_body: '${BODY:-1MB}', host: "${HOST}"}
upstreams:
  o: {provider: '${KIND}', strict_models: '${STRICT}', prices: {m: {input: '${PRICE}'}}}
routes: [{prefix: p, to: 'o/${PORT}', request: {set: {a: ['$${x}', {b: '${PORT}'}]}}}]
"""
    (tmp_path / ".env").write_text("PORT=1\nHOST=127.0.0.2\n")
    settings = loaded(tmp_path, text, {"PORT": "81", "KIND": "ollama", "STRICT": "true", "PRICE": "0.5"})
    assert (settings.server.port, settings.server.max_body, settings.server.host) == (81, 1 << 20, "127.0.0.2")
    assert (settings.upstreams["o"].strict_models, settings.upstreams["o"].prices["m"].input) == (True, 0.5)
    assert settings.routes[0].to[0].model == "81"
    assert settings.routes[0].request.set == {"a": ["${x}", {"b": "81"}]}


def test_empty_sections_count_as_missing(tmp_path: Path) -> None:
    text = f"{SMALL}routes:\n# - prefix: x\npersonas:\nserver:\ndefault_upstream:\n"
    assert loaded(tmp_path, text) == loaded(tmp_path, SMALL)


def test_the_command_line_overrides_the_server_section(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(f"{SMALL}server: {{port: 1}}\n")
    assert load(file, {}, PROVIDERS, {"port": 2}).server.port == 2
    with pytest.raises(
        ConfigError, match="^[^:]*: server.host: access.keys is open by default, which is not allowed on"
    ):
        load(file, {}, PROVIDERS, {"host": "0.0.0.0"})
    file.write_text(SMALL)
    assert load(file, {}, PROVIDERS, {"port": 3}).server.port == 3
    with pytest.raises(ConfigError) as caught:
        load(file, {}, PROVIDERS, {"port": -1})
    assert str(caught.value) == f'{file}: server.port: expected at least 0, got "-1"'
