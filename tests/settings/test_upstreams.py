"""Upstreams: their address, their key, and whether they are live."""

import sys
from pathlib import Path

import pytest

from tests.settings.facts import loaded, problems

OPENAI = "{provider: openai}"


@pytest.mark.parametrize(
    ("upstream", "environ", "reason"),
    [
        ("{provider: openrouter, api_key: '${MY_KEY:-}'}", {}, "MY_KEY is not set"),
        ("{provider: openrouter, api_key: '${MY_KEY:-}'}", {"OPENROUTER_API_KEY": "k"}, "MY_KEY is not set"),
        ("{provider: openrouter, api_key: '${MY_KEY:-}'}", {"MY_KEY": "k"}, ""),
        ("{provider: openrouter}", {}, "OPENROUTER_API_KEY is not set"),
        ("{provider: openrouter}", {"OPENROUTER_API_KEY": "k"}, ""),
        ("{provider: openrouter, api_key: ''}", {"OPENROUTER_API_KEY": "k"}, "OPENROUTER_API_KEY is not set"),
        ("{provider: openrouter, key_required: false}", {}, ""),
        ("{provider: anthropic, base_url: 'http://h/v1'}", {}, "ANTHROPIC_API_KEY is not set"),
        (OPENAI, {}, "OPENAI_API_KEY is not set"),
        ("{provider: openai, base_url: 'https://api.openai.com/'}", {}, "OPENAI_API_KEY is not set"),
        ("{provider: openai, base_url: 'http://127.0.0.1:8000'}", {}, ""),
        ("{provider: openai, base_url: 'http://h', key_required: true}", {}, "OPENAI_API_KEY is not set"),
        ("{provider: openai, base_url: '${AZURE:-}', api_key: k}", {}, "AZURE is not set"),
        ("{provider: ollama}", {}, ""),
        ("{provider: ollama, key_required: true}", {}, "OLLAMA_API_KEY is not set"),
        ("{provider: llamacpp}", {}, ""),
        ("{provider: runpod, api_key: k}", {}, "endpoint_id is not set"),
        ("{provider: runpod, api_key: k, endpoint_id: '${EP:-}'}", {}, "EP is not set"),
        ("{provider: runpod, endpoint_id: e}", {}, "RUNPOD_API_KEY is not set"),
        ("{provider: runpod, endpoint_id: e, api_key: k}", {}, ""),
    ],
)
def test_an_upstream_without_its_key_or_address_is_off_with_a_reason(
    tmp_path: Path, upstream: str, environ: dict[str, str], reason: str
) -> None:
    found = loaded(tmp_path, f"upstreams:\n  u: {upstream}\n", environ).upstreams["u"]
    assert (found.reason, found.live) == (reason, not reason)


def test_an_embedded_model_without_its_packages_is_off_with_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [place for place in sys.path if "site-packages" not in place])
    text = "upstreams:\n  own: {provider: llamacpp}\n  other: {provider: llamacpp, base_url: 'http://h'}\n"
    upstreams = loaded(tmp_path, text, {}).upstreams
    assert (upstreams["own"].reason, upstreams["own"].embedded) == ("the extra `local` is not installed", False)
    assert upstreams["other"].live


@pytest.mark.parametrize(
    ("upstream", "key"),
    [
        (OPENAI, "usual"),
        ("{provider: openai, base_url: 'https://api.openai.com/v1/'}", "usual"),
        ("{provider: openai, base_url: 'https://elsewhere.example'}", ""),
        ("{provider: openai, base_url: '${NONE:-}'}", ""),
        ("{provider: openai, api_key: ''}", ""),
        ("{provider: openai, api_key: mine}", "mine"),
    ],
)
def test_the_usual_key_goes_to_the_usual_address_only(tmp_path: Path, upstream: str, key: str) -> None:
    settings = loaded(tmp_path, f"upstreams:\n  u: {upstream}\n", {"OPENAI_API_KEY": "usual"})
    assert settings.upstreams["u"].api_key == key


def test_an_invalid_usual_key_is_an_error_only_for_upstreams_that_use_it(tmp_path: Path) -> None:
    for environ, says in (
        ({"OPENAI_API_KEY": "sk\n"}, "expected a key of printable ASCII characters without spaces around it"),
        ({"OPENAI_API_KEY_FILE": "none"}, "the file that OPENAI_API_KEY_FILE names cannot be read: No such file"),
    ):
        (problem,) = problems(tmp_path, f"upstreams:\n  u: {OPENAI}\n", environ)
        assert problem.startswith("2:3: upstreams.u.api_key: ") and says in problem and "OPENAI_API_KEY" in problem
        own = "{provider: openai, base_url: 'http://h', api_key: own}"
        assert loaded(tmp_path, f"upstreams:\n  u: {own}\n", environ).upstreams["u"].api_key == "own"


def test_a_usual_key_may_be_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from-file\n")
    settings = loaded(tmp_path, f"upstreams:\n  u: {OPENAI}\n", {"OPENAI_API_KEY_FILE": "key"})
    assert (settings.upstreams["u"].api_key, settings.upstreams["u"].live) == ("from-file", True)


def test_options_are_what_only_the_provider_reads(tmp_path: Path) -> None:
    text = """
upstreams:
  r: {provider: runpod, endpoint_id: e, mode: openai, extract: output.text}
  o: {provider: ollama, keep_alive: -1}
  p: {provider: ollama, keep_alive: 5m}
  a: {provider: anthropic, api_version: 2023-06-01}
  b: {provider: openai}
"""
    upstreams = loaded(tmp_path, text).upstreams
    assert upstreams["r"].options == {"endpoint_id": "e", "mode": "openai", "job_wait": 300.0, "extract": "output.text"}
    assert (upstreams["o"].options, upstreams["p"].options) == ({"keep_alive": -1}, {"keep_alive": "5m"})
    assert (upstreams["a"].options, upstreams["b"].options) == ({"api_version": "2023-06-01"}, {})


def test_addresses_of_upstreams_are_completed(tmp_path: Path) -> None:
    text = f"upstreams:\n  o: {{provider: ollama, base_url: '${{OLLAMA_HOST:-x}}'}}\n  p: {OPENAI}\n"
    upstreams = loaded(tmp_path, text, {"OLLAMA_HOST": "0.0.0.0"}).upstreams
    assert upstreams["o"].base_url == "http://127.0.0.1:11434"
    assert upstreams["p"].base_url == "https://api.openai.com/v1"
