import pytest

from proxy.providers.contract import Provider
from proxy.providers.registry import FACTS, PROVIDERS, provider

ON_THIS_MACHINE = {"vllm", "lmstudio", "llamacpp", "ollama"}


@pytest.mark.parametrize("name", sorted(PROVIDERS))
def test_every_provider_is_called_as_config_yaml_calls_it(name: str) -> None:
    made = provider(name, {})
    assert isinstance(made, Provider) and made.name == name
    facts = FACTS[name]
    assert (facts.base_url, facts.usual_path) == (made.base_url, made.usual_path)
    assert not facts.base_url.endswith("/")


def test_keys_are_required_where_the_contract_says_so() -> None:
    assert {name for name, facts in FACTS.items() if facts.key_required} >= {"openrouter", "runpod"}
    assert all(facts.key_variable for name, facts in FACTS.items() if name not in ON_THIS_MACHINE)


def test_no_two_providers_share_a_key_variable() -> None:
    variables = [facts.key_variable for facts in FACTS.values() if facts.key_variable]
    assert len(variables) == len(set(variables))


def test_a_name_that_is_none_is_an_error() -> None:
    with pytest.raises(KeyError):
        provider("opneai", {})
