"""Azure: paths by address and version, and a list of models where there is one."""

from collections.abc import Iterator

import pytest

from proxy.errors import SluiceError
from proxy.providers.registry import provider
from tests.doubles.azure import AzureDouble
from tests.providers.targets import json, listed, order
from tests.running import Running, sluice
from tests.waiting import wait_for

HOST = "https://x.openai.azure.com/openai"


@pytest.mark.parametrize(
    ("base", "options", "endpoint", "path"),
    [
        (HOST, {}, "chat/completions", "/v1/chat/completions"),
        (HOST + "/v1", {}, "chat/completions", "/chat/completions"),
        (HOST + "/v1", {"api_version": "preview"}, "responses", "/responses?api-version=preview"),
        (HOST, {"api_version": "2024-10-21"}, "responses", "/responses?api-version=2024-10-21"),
        (
            HOST,
            {"api_version": "2024-10-21"},
            "chat/completions",
            "/deployments/my%2Fgpt%3F/chat/completions?api-version=2024-10-21",
        ),
    ],
)
def test_the_path_depends_on_address_and_version(base: str, options: dict[str, str], endpoint: str, path: str) -> None:
    at = provider("azure", options)
    request = at.request(order(at, base=base, model="my/gpt?", key="k", endpoint=endpoint))
    assert request.path == path
    assert (b"api-key", b"k") in request.headers and b"authorization" not in dict(request.headers)


ENTRY = {"id": "gpt-4o", "created_at": 7, "capabilities": {"inference": True}}


@pytest.mark.parametrize(
    ("base", "options", "path"),
    [
        (HOST, {}, "/v1/models"),
        (HOST + "/v1", {}, "/models"),
        (HOST + "/v1", {"api_version": "preview"}, "/models?api-version=preview"),
    ],
)
def test_the_v1_surface_lists_what_can_be_asked(base: str, options: dict[str, str], path: str) -> None:
    tuned = {"id": "curie", "capabilities": {"inference": False}}
    asked, models = listed(provider("azure", options), json({"data": [ENTRY, tuned, {"id": "o"}, 7]}), base=base)
    assert [request.path for request in asked] == [path]
    assert [(model.id, model.created) for model in models] == [("gpt-4o", 7), ("o", None)]


def test_deployments_are_not_listed_but_asked_for_health() -> None:
    at = provider("azure", {"api_version": "2024-10-21"})
    asked, models = listed(at, json({"data": [ENTRY]}), base=HOST)
    assert [request.path for request in asked] == ["/models?api-version=2024-10-21"] and models is None
    with pytest.raises(SluiceError, match="credentials"):
        listed(at, json({"error": {"code": "401", "message": "Access denied"}}, 401), base=HOST)


CONFIG = """
upstreams:
  v1: {{provider: azure, base_url: {url}, api_key: {key}}}
  named: {{provider: azure, base_url: {url}, api_key: {key}, api_version: 2024-10-21, limits: {{my-gpt-4o: {{output: 9}}}}}}
  fixed: {{provider: azure, base_url: {url}, api_key: {key}, api_version: 2024-10-21, models: [my-gpt-4o-mini]}}
  old: {{provider: azure, base_url: {url}, api_key: {key}, api_version: 2024-06-01, models: [my-gpt-4o]}}
  locked: {{provider: azure, base_url: {url}, api_key: wrong, api_version: 2024-10-21}}
"""


@pytest.fixture(scope="module")
def azure() -> Iterator[tuple[Running, AzureDouble]]:
    with (
        AzureDouble(models=("gpt-4o", "gpt-4o-mini")) as double,
        sluice(CONFIG.format(url=double.url, key=double.key)) as proxy,
    ):
        shelves = proxy.app.runtime.plan.catalog.shelves
        wait_for(lambda: shelves["v1"].state == "fetched" and shelves["locked"].trouble)
        wait_for(lambda: sum("api-version" in request.path for request in double.requests) >= 4)
        yield proxy, double


def test_what_can_be_called_is_listed(azure: tuple[Running, AzureDouble]) -> None:
    with azure[0].client() as client:
        listed = [model["id"] for model in client.get("/v1/models").json()["data"]]
        healthy = {each["name"]: each["healthy"] for each in client.get("/admin/overview").json()["upstreams"]}
    assert listed == ["v1/gpt-4o", "v1/gpt-4o-mini", "named/my-gpt-4o", "fixed/my-gpt-4o-mini", "old/my-gpt-4o"]
    assert healthy == {"v1": True, "named": True, "fixed": True, "old": True, "locked": False}


@pytest.mark.parametrize(
    ("model", "route"),
    [
        ("v1/gpt-4o", "/openai/v1/chat/completions"),
        ("v1/my-own-name", "/openai/v1/chat/completions"),
        ("named/my-gpt-4o", "/openai/deployments/my-gpt-4o/chat/completions"),
        ("named/my-gpt-4o-mini", "/openai/deployments/my-gpt-4o-mini/chat/completions"),
        ("fixed/my-gpt-4o-mini", "/openai/deployments/my-gpt-4o-mini/chat/completions"),
    ],
)
def test_what_is_listed_answers_and_unlisted_deployments_do_too(
    azure: tuple[Running, AzureDouble], model: str, route: str
) -> None:
    proxy, double = azure
    assert proxy.chat({"model": model, "messages": [{"role": "user", "content": "hello"}]}).status_code == 200
    assert [request.route for request in double.requests if request.method == "POST"][-1] == route


def test_old_versions_are_not_asked_for_the_usage_that_they_cannot_tell(azure: tuple[Running, AzureDouble]) -> None:
    proxy, double = azure
    ask = {"messages": [{"role": "user", "content": "hello"}], "stream": True}
    assert proxy.chat({"model": "old/my-gpt-4o", **ask}).status_code == 200
    assert "stream_options" not in double.calls[-1].json
    assert proxy.chat({"model": "named/my-gpt-4o", **ask}).status_code == 200
    assert double.calls[-1].json["stream_options"] == {"include_usage": True}
    refused = proxy.chat({"model": "old/my-gpt-4o", **ask, "stream_options": {"include_usage": True}})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "stream_options")


def test_a_content_filter_is_the_clients() -> None:
    body = b'{"error":{"message":"filtered","code":"content_filter","status":400,"innererror":{"code":"x"}}}'
    error = provider("azure", {}).failure(400, [], body)
    assert (error.code, error.status, error.again) == ("content_filter", 400, "never")
