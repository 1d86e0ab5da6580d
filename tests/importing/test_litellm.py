"""LiteLLM's configurations, converted whole."""

from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.cli.check import run as check
from proxy.importing.litellm import BadInput, convert
from tests.importing.running import CONFIGS, imported, planned, targets, written


def test_there_are_at_least_ten_sample_files() -> None:
    assert len(CONFIGS) >= 10


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_each_passes_every_check_and_its_own_routing_tests(path: Path, tmp_path: Path) -> None:
    made = planned(tmp_path, convert(path.read_text("utf-8")).text)
    assert made.settings.tests


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_no_secret_is_printed(path: Path) -> None:
    found = convert(path.read_text("utf-8"))
    assert "canary" not in found.text
    assert not [finding for finding in found.findings if "canary" in str(finding)]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_verdict_names_its_field_once(path: Path) -> None:
    verdicts = [str(finding) for finding in convert(path.read_text("utf-8")).findings]
    assert verdicts and len(verdicts) == len(set(verdicts))


def test_the_command_check_takes_a_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, imported("01").text)

    class Arguments:
        config = path

    assert check(Arguments()) == 0  # type: ignore[arg-type]
    assert "tests: 2 passed" in capsys.readouterr().out


def test_a_wildcard_for_everything_is_the_default_upstream(tmp_path: Path) -> None:
    made = planned(tmp_path, imported("05").text)
    assert targets(made, "anything") == ["openrouter/anything"]
    assert targets(made, "openai/gpt-4o") == ["openai/gpt-4o"]
    assert targets(made, "fast-3.1") == ["groq/llama-3.1"]


ALL = """
model_list:
- {model_name: own, litellm_params: {model: groq/own}}
- {model_name: last, litellm_params: {model: gemini/last}}
- {model_name: "*", litellm_params: {model: "openrouter/*"}}
litellm_settings: {SETTINGS}
"""


@pytest.mark.parametrize("settings", ['fallbacks: [{own: [own]}, {"*": [last]}]', "default_fallbacks: [last]"])
def test_fallbacks_of_all_groups_apply_to_the_wildcard_too(tmp_path: Path, settings: str) -> None:
    found = convert(ALL.replace("SETTINGS", settings))
    made = planned(tmp_path, found.text)
    assert targets(made, "anything") == ["openrouter/anything", "gemini/last"]
    assert targets(made, "own") == (["groq/own"] if "own" in settings else ["groq/own", "gemini/last"])
    assert targets(made, "last") == ["gemini/last"] and not found.findings.count("unsupported")


def test_of_several_entries_for_a_model_the_first_counts_and_of_all_the_last(tmp_path: Path) -> None:
    """As in LiteLLM's Router (router_utils/fallback_event_handlers.py, get_fallback_model_group)."""
    found = convert(ALL.replace("SETTINGS", 'fallbacks: [{own: [last]}, {own: [own]}, {"*": [own]}, {"*": [last]}]'))
    made = planned(tmp_path, found.text)
    assert targets(made, "own") == ["groq/own", "gemini/last"]
    assert targets(made, "anything") == ["openrouter/anything", "gemini/last"]
    repeated = {finding.path: finding.text for finding in found.findings if "entries" in finding.text}
    assert repeated == {
        "litellm_settings.fallbacks.own": "the first of 2 entries is used, as in LiteLLM",
        "litellm_settings.fallbacks.*": "the last of 2 entries is used, as in LiteLLM",
    }


@pytest.mark.parametrize("order", [1, -1])
def test_default_fallbacks_take_precedence_over_those_of_the_wildcard(tmp_path: Path, order: int) -> None:
    """As LiteLLM's Router has it, which appends them to the others and takes the last of `*`."""
    settings = ['fallbacks: [{last: [own]}, {"*": [own]}]', "default_fallbacks: [last]"][::order]
    made = planned(tmp_path, convert(ALL.replace("SETTINGS", ", ".join(settings))).text)
    assert targets(made, "anything") == ["openrouter/anything", "gemini/last"]
    assert targets(made, "own") == ["groq/own", "gemini/last"]
    assert targets(made, "last") == ["gemini/last", "groq/own"]


def test_a_wildcard_for_everything_is_cached_and_retried_as_the_file_says(tmp_path: Path) -> None:
    made = planned(tmp_path, convert(ALL.replace("SETTINGS", "cache: true")).text)
    assert made.router.resolve("anything").route.policies.cache is not None
    retried = ALL.replace('"openrouter/*"', '"openrouter/*", max_retries: 6')
    made = planned(tmp_path, convert(retried.replace("SETTINGS", "")).text)
    assert made.router.resolve("anything").route.policies.retry.attempts == 7


def test_without_a_master_key_it_stays_on_this_machine_and_with_one_it_is_locked(tmp_path: Path) -> None:
    opened = planned(tmp_path, imported("01").text).settings
    assert (opened.server.host, opened.access.keys) == ("127.0.0.1", "open")
    locked = planned(tmp_path, imported("06").text).settings
    assert (locked.server.host, locked.access.keys) == ("0.0.0.0", "required")
    assert locked.access.client_keys == ("value-of-LITELLM_MASTER_KEY",)


def test_literal_dollars_stay_what_they_are(tmp_path: Path) -> None:
    made = planned(tmp_path, imported("12").text)
    assert targets(made, "100% ${not a variable} $$") == ["openai/house"]


@pytest.mark.parametrize("name", ["1e3", "-1.5E-7", "1.", ".5", "017", "1_000", "12:30", "0x10", "~", "yes", "=", "<<"])
def test_a_name_that_looks_like_a_number_stays_a_name(tmp_path: Path, name: str) -> None:
    entry = {"model_name": name, "litellm_params": {"model": f"openai/{name}", "api_key": "os.environ/KEY"}}
    assert targets(planned(tmp_path, convert(yaml.safe_dump({"model_list": [entry]})).text), name) == [f"openai/{name}"]


def test_a_key_of_digits_is_a_key_and_an_unusable_one_is_reported(tmp_path: Path) -> None:
    text = """
    model_list:
    - {model_name: a, litellm_params: {model: openai/a, api_base: "http://127.0.0.1:1", api_key: 1701}}
    - {model_name: b, litellm_params: {model: groq/b, api_key: true}}
    litellm_settings: {cache: true, cache_params: {type: redis, host: r, password: 1702}}
    """
    found = convert(text)
    made = planned(tmp_path, found.text).settings
    assert made.upstreams["openai"].api_key == "value-of-OPENAI_API_KEY"
    assert made.cache.store == "redis://:value-of-REDIS_PASSWORD@r:6379/0"
    assert "170" not in found.text + "".join(map(str, found.findings))
    assert "unsupported  model_list[1].litellm_params.api_key: not a key; left out" in map(str, found.findings)


def test_a_deployment_without_a_model_is_named_as_that() -> None:
    """LiteLLM's own example has it: Azure has images without a deployment."""
    found = convert("model_list: [{model_name: dall-e-2, litellm_params: {model: azure/, api_base: 'https://a.b'}}]")
    finding = "model_list[0].litellm_params.model: names no model; this deployment is left out"
    assert [str(finding) for finding in found.findings if "[0]" in str(finding)] == [f"unsupported  {finding}"]


def test_parts_of_parameters_are_removed_and_others_are_reported(tmp_path: Path) -> None:
    dropped = ["user", "metadata.user", "tools[0].strict", r"extra.a\.b", "tools[*].strict", "model", "a..b", 7]
    entry = {"model_name": "a", "litellm_params": {"model": "groq/a", "additional_drop_params": dropped}}
    found = convert(yaml.safe_dump({"model_list": [entry]}))
    (route,) = planned(tmp_path, found.text).settings.routes
    assert route.request.remove == ("user", "metadata.user", "tools.0.strict", r"extra.a\.b")
    left = [finding.path[-3:] for finding in found.findings if finding.verdict == "unsupported"]
    assert left == ["[4]", "[5]", "[6]", "[7]"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model_list: [", "line 1, column 14: not valid YAML"),
        ("- a", "expected a mapping"),
        ("", "expected a mapping"),
        ("general_settings: {master_key: canary}", "with a model_list, and there is none"),
        ("model_list: canary", "with a model_list, and there is none"),
        ("a: !!python/object:os.system canary", "not valid YAML"),
        ("a: canary\x00", "not valid YAML"),
    ],
)
def test_invalid_input_is_an_error_that_does_not_quote_it(text: str, message: str) -> None:
    with pytest.raises(BadInput) as raised:
        convert(text)
    assert message in str(raised.value) and "canary" not in str(raised.value)


def test_without_any_usable_model_the_text_is_empty() -> None:
    found = convert("model_list: [{model_name: a, litellm_params: {model: bedrock/x}}, 3, null]")
    assert found.text == "" and found.findings.count("unsupported") == 3


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
PARAMETERS = (
    "api_key api_base rpm weight timeout stream_timeout num_retries temperature extra_headers api_version".split()
)
SETTINGS = "num_retries timeout fallbacks model_group_alias cache cache_params request_timeout callbacks".split()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, derandomize=True)
@given(st.dictionaries(st.sampled_from(PARAMETERS), values), st.dictionaries(st.sampled_from(SETTINGS), values), values)
def test_any_values_convert_to_a_valid_configuration(
    tmp_path: Path, params: dict[str, object], section: dict[str, object], info: object
) -> None:
    entry = {"model_name": "a", "litellm_params": {"model": "openai/b", **params}, "model_info": info}
    other = {"model_name": "a", "litellm_params": {"model": "groq/c", "weight": 2}}
    given_text = yaml.safe_dump({"model_list": [entry, other], "router_settings": section, "litellm_settings": section})
    try:
        found = convert(given_text)
    except BadInput:
        return  # control characters, which YAML cannot hold
    planned(tmp_path, found.text)
