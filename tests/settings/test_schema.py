"""The whole of the contract's sample, defaults, secrets."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from proxy import planning
from proxy.settings.values import Part
from tests.settings.facts import SMALL, loaded

SAMPLE = (Path(__file__).parent / "contract.yaml").read_text("utf-8")
SECRET = """
access: {client_keys: [canary-client, ''], admin_token: canary-admin}
store: postgresql://u:canary-store@h/d
cache: {store: 'redis://:canary-redis@h:6379/0'}
vapi: {secret: canary-vapi}
upstreams:
  u:
    provider: openrouter
    api_key: canary-key
    proxy: http://u:canary%2Dproxy@h:3128
    headers: {authorization: Bearer canary-header, x-team: search}
routes: [{prefix: p, to: u, request: {headers: {set: {x-api-key: canary-route}}}}]
"""


def test_the_sample_of_the_contract_loads(tmp_path: Path) -> None:
    settings = loaded(tmp_path, SAMPLE, {"SLUICE_KEY": "k"})
    assert (settings.server.port, settings.server.max_body, settings.server.drain) == (8080, 20 << 20, 30.0)
    assert settings.server.timeouts.header == 10.0
    assert settings.access.client_keys == ("k",)
    assert settings.store == f"sqlite:///{tmp_path}/sluice.db"
    assert list(settings.upstreams) == ["openrouter", "ollama", "runpod", "local", "azure-east"]
    azure = settings.upstreams["azure-east"]
    assert (azure.models, azure.max_in_flight, azure.max_wait) == (("gpt-4o", "gpt-4o-mini"), 200, 10.0)
    assert (azure.limits["gpt-4o"].output, azure.prices["gpt-4o"].cached) == (16384, 1.25)
    assert {name: upstream.reason for name, upstream in settings.upstreams.items() if not upstream.live} == {
        "openrouter": "OPENROUTER_API_KEY is not set",
        "runpod": "RUNPOD_ENDPOINT_ID is not set",
    }
    assert settings.default_upstream == "openrouter"
    assert settings.defaults.timeouts.total == 3600.0
    assert settings.defaults.retry.budget == 0.2
    gpt, fast, house = settings.routes
    planning.load_settings(tmp_path / "config.yaml", {"SLUICE_KEY": "k"})  # its own routing tests pass
    assert [(target.upstream, target.model) for target in gpt.to] == [
        ("azure-east", None),
        ("openrouter", "openai/{model}"),
    ]
    assert [(target.model, target.weight) for target in fast.to] == [("llama3.2:{rest}", 3), ("meta-llama/{rest}", 1)]
    assert fast.timeouts.over(settings.defaults.timeouts).first_token == 10.0
    assert fast.hedge is not None and (fast.hedge.after, fast.hedge.budget) == (2.0, 0.05)
    assert fast.request.rename == {"max_tokens": "max_completion_tokens"}
    assert fast.request.headers.remove == ("x-stainless-os",)
    assert fast.response.model == "asked"
    assert fast.cache is not None and (fast.cache.exact, fast.cache.sampled) == (3600.0, True)
    assert (house.model, house.prefix) == ("house-model", None)
    assert settings.cache.similar is not None and settings.cache.similar.threshold == 0.95
    assert settings.personas["pirate"].set == {"temperature": 1.1}
    assert settings.vapi.tools["lookup"].timeout == 5.0
    assert settings.tests[0].expect == ("azure-east/gpt-4o",)


def test_everything_but_upstreams_has_a_default(tmp_path: Path) -> None:
    settings = loaded(tmp_path, SMALL)
    assert settings.model_fields_set - {"store"} == {"upstreams"}
    assert (settings.server.host, settings.access.keys, settings.routes, settings.default_upstream) == (
        "127.0.0.1",
        "open",
        (),
        None,
    )


def test_the_defaults_are_those_of_the_contracts_sample(tmp_path: Path) -> None:
    sample, small = loaded(tmp_path, SAMPLE), loaded(tmp_path, SMALL)
    for part in ("server", "access", "store", "defaults", "log"):
        assert getattr(sample, part) == getattr(small, part)
    assert sample.cache.model_copy(update={"similar": None}) == small.cache


def test_secrets_are_known_and_in_no_repr(tmp_path: Path) -> None:
    settings = loaded(tmp_path, SECRET)
    secrets = settings.secrets()
    assert {secret for secret in secrets if secret.startswith("canary")} == set(
        re.findall(r"canary[-\w%]+", SECRET.replace("canary-route", ""))
    ) | {"canary-proxy"}
    assert "search" not in secrets and "" not in secrets
    assert "canary" not in repr(settings) and "canary" not in str(settings)


def test_settings_are_frozen(tmp_path: Path) -> None:
    settings = loaded(tmp_path, SMALL)
    for part, key in ((settings, "store"), (settings.server, "port"), (settings.upstreams["o"], "api_key")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(part, key, "x")


def test_every_key_is_described() -> None:
    for part in Part.__subclasses__():
        for name, field in part.model_fields.items():
            assert (field.description or "").endswith("."), f"{part.__name__}.{name}"
