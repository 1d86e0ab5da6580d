"""Checks between the parts of a configuration."""

from pathlib import Path

import pytest

from tests.settings.facts import loaded, problems

UPSTREAMS = """upstreams:
  ollama: {provider: ollama}
  fixed: {provider: openai, models: [gpt-4o, gpt-4o-mini]}
"""
NO_MODEL = "rewriting cannot change the model: choose it in `to`, and the name in answers with `response.model`"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("default_upstream: olama", '4:1: default_upstream: no upstream is called "olama"; did you mean "ollama"?'),
        ("default_upstream: ''", None),
        ("routes: [{prefix: p, to: x/y}]", '4:22: routes.0.to: no upstream is called "x"; known here: fixed, ollama'),
        (
            "routes: [{prefix: p, to: [ollama, olama/y]}]",
            '4:35: routes.0.to.1: no upstream is called "olama"; did you mean "ollama"?',
        ),
        (
            "personas: {p: {upstream: fix, model: m}}",
            '4:16: personas.p.upstream: no upstream is called "fix"; did you mean "fixed"?',
        ),
        (
            "tests: [{model: m, expect: x/m}]",
            '4:20: tests.0.expect: no upstream is called "x"; known here: fixed, ollama',
        ),
        (
            "tests: [{model: m, expect: [ollama/m, x/m]}]",
            '4:39: tests.0.expect.1: no upstream is called "x"; known here: fixed, ollama',
        ),
        (
            "cache: {similar: {embedder: x/m}}",
            '4:19: cache.similar.embedder: no upstream is called "x"; known here: fixed, ollama',
        ),
        ("cache: {similar: {embedder: ollama/m}}", None),
        ("cache: {similar: {embedder: ollama}}", "4:19: cache.similar.embedder: expected local or UPSTREAM/MODEL"),
        (
            "cache: {similar: {embedder: fixed/e}}",
            '4:19: cache.similar.embedder: "e" is not in upstreams.fixed.models; known here: gpt-4o, gpt-4o-mini',
        ),
        ("routes: [{prefix: p, to: fixed/gpt-4o}]", None),
        ("routes: [{prefix: p, to: fixed}]", None),
        ("routes: [{prefix: p, to: 'fixed/{rest}'}]", None),
        ("routes: [{model: gpt-4o, to: fixed}]", None),
        (
            "routes: [{prefix: p, to: fixed/gpt-4}]",
            '4:22: routes.0.to: "gpt-4" is not in upstreams.fixed.models; did you mean "gpt-4o"?',
        ),
        (
            "routes: [{model: gpt-4, to: [fixed]}]",
            '4:30: routes.0.to.0: "gpt-4" is not in upstreams.fixed.models; did you mean "gpt-4o"?',
        ),
        (
            "personas: {p: {upstream: fixed, model: m}}",
            '4:33: personas.p.model: "m" is not in upstreams.fixed.models; known here: gpt-4o, gpt-4o-mini',
        ),
        (
            "routes: [{model: m, to: 'ollama/{rest}'}]",
            "4:21: routes.0.to: {rest} is what follows the prefix, but this route has no prefix",
        ),
        (
            "routes: [{prefix: p, to: ollama}, {prefix: p, to: ollama}]",
            '4:36: routes.1.prefix: a route above already has the prefix "p"',
        ),
        (
            "routes: [{model: p, to: ollama}, {prefix: p, to: ollama}, {model: p, to: ollama}]",
            '4:60: routes.2.model: a route above already has the model "p"',
        ),
        ("routes: [{prefix: '', to: ollama}]", None),
        ("routes: [{to: ollama}]", "4:10: routes.0.prefix: a route needs a prefix or a model, but not both"),
        (
            "routes: [{model: m, prefix: p, to: ollama}]",
            "4:21: routes.0.prefix: a route needs a prefix or a model, but not both",
        ),
        (
            "routes: [{prefix: p, to: [ollama, {upstream: fixed, weight: 1}]}]",
            "4:22: routes.0.to: either all targets of a route need a weight, or none",
        ),
        (
            "routes: [{prefix: p, to: ollama, request: {set: {model: x}}}]",
            f"4:50: routes.0.request.set.model: {NO_MODEL}",
        ),
        (
            "routes: [{prefix: p, to: ollama, request: {default: {Model: x}}}]",
            f"4:54: routes.0.request.default.Model: {NO_MODEL}",
        ),
        (
            "routes: [{prefix: p, to: ollama, request: {rename: {engine: model}}}]",
            f"4:53: routes.0.request.rename.engine: {NO_MODEL}",
        ),
        (
            "routes: [{prefix: p, to: ollama, request: {remove: [a, model]}}]",
            f"4:56: routes.0.request.remove.1: {NO_MODEL}",
        ),
        (
            "routes: [{prefix: p, to: ollama, response: {set: {model: x}}}]",
            f"4:51: routes.0.response.set.model: {NO_MODEL}",
        ),
        ("routes: [{prefix: p, to: ollama, request: {set: {models: x, a.model: y}}}]", None),
        (
            "routes: [{prefix: p, to: ollama, request: {system: {replace: a, append: b}}}]",
            "4:44: routes.0.request.system: replace cannot be combined with prepend or append",
        ),
        (
            "personas: {p: {upstream: ollama, model: m, set: {model: x}}}",
            "4:44: personas.p.set: cannot set the model: use the persona's key `model`",
        ),
        (
            "routes: [{model: persona/p, to: ollama}]",
            "4:11: routes.0.model: persona/NAME is reserved for personas: define it under `personas`, "
            "or choose another name",
        ),
        (
            "personas: {a/b: {upstream: ollama, model: m}}",
            "4:12: personas.a/b: the name of a persona may not contain a slash",
        ),
        (
            "access: {keys: required, client_keys: ['${NONE:-}']}",
            "4:10: access.keys: required, but access.client_keys has no key (empty ones do not count): add one",
        ),
        ("access: {keys: required, client_keys: [k]}\nserver: {host: 0.0.0.0}", None),
        ('server: {host: "[::1]"}', None),
        (
            "server: {host: 0.0.0.0}",
            "4:10: server.host: access.keys is open by default, which is not allowed on 0.0.0.0: set it to required",
        ),
    ],
)
def test_contradictions_between_parts_are_errors(tmp_path: Path, text: str, found: str | None) -> None:
    assert problems(tmp_path, f"{UPSTREAMS}{text}\n") == ([found] if found else [])


@pytest.mark.parametrize("key", ["clé", "ключ", "sk-1\u00a0", " sk-1", "sk-1\t", "sk\n1", "sk\x7f1"])
def test_a_client_key_that_no_header_can_carry_is_an_error_at_its_position(tmp_path: Path, key: str) -> None:
    text = f"{UPSTREAMS}access: {{keys: required, client_keys: ['', sk-good, '${{KEY}}', also good]}}\n"
    assert problems(tmp_path, text, {"KEY": key}) == [
        "4:53: access.client_keys.2: expected a key of printable ASCII characters without spaces around it"
    ]


def test_client_keys_are_kept_as_they_are_and_empty_ones_ignored(tmp_path: Path) -> None:
    text = f"{UPSTREAMS}access: {{keys: required, client_keys: ['', k, '${{KEY}}', '${{NONE:-}}', also good]}}\n"
    assert loaded(tmp_path, text, {"KEY": "~!x"}).access.client_keys == ("k", "~!x", "also good")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("persona: {provider: ollama}", "2:3: upstreams.persona: reserved name"),
        ("a/b: {provider: ollama}", "2:3: upstreams.a/b: expected a name of letters, digits"),
        ('"a b": {provider: ollama}', "2:3: upstreams.a b: expected a name of letters, digits"),
        ("o: {provider: ollama, job_wait: 5m}", "2:25: upstreams.o.job_wait: this key is for the provider runpod only"),
        (
            "o: {provider: openai, keep_alive: 5m}",
            "2:25: upstreams.o.keep_alive: this key is for the provider ollama only",
        ),
        (
            "o: {provider: opnai}",
            "2:7: upstreams.o.provider: expected one of anthropic, llamacpp, ollama, openai, openrouter, runpod, "
            'got "opnai"; did you mean "openai"?',
        ),
        ("o: {provider: openai, base_url: 'h/v1'}", "2:25: upstreams.o.base_url: expected an address such as"),
    ],
)
def test_invalid_upstreams_are_errors(tmp_path: Path, text: str, found: str) -> None:
    (problem,) = problems(tmp_path, f"upstreams:\n  {text}\n")
    assert problem.startswith(found)


@pytest.mark.parametrize(
    ("key", "value", "column"),
    [("limits", "{gpt-4: {output: 9}}", 56), ("prices", "{gpt-4: {input: 9}}", 56), ("prefill", "[gpt-4o, gpt-4]", 65)],
)
def test_limits_and_prices_must_name_models_of_the_fixed_catalogue(
    tmp_path: Path, key: str, value: str, column: int
) -> None:
    """A mistyped limit would be no limit at all."""
    text = f"upstreams:\n  fixed: {{provider: openai, models: [gpt-4o], {key}: {value}}}"
    place = f"upstreams.fixed.{key}.{'1' if key == 'prefill' else 'gpt-4'}"
    message = f'{place}: "gpt-4" is not in upstreams.fixed.models; did you mean "gpt-4o"?'
    assert problems(tmp_path, text) == [f"2:{column}: {message}"]
    assert problems(tmp_path, text.replace("models: [gpt-4o], ", "")) == [], "nobody knows yet what it has"
    assert problems(tmp_path, text.replace("gpt-4:", "gpt-4o:latest:").replace("gpt-4]", "gpt-4o:latest]")) == []


def test_no_upstream_at_all(tmp_path: Path) -> None:
    assert problems(tmp_path, "upstreams: {}\n") == ["1:1: upstreams: at least one upstream is needed"]
