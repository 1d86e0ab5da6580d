import pytest

from proxy.providers.registry import provider
from tests.providers.targets import json, listed, order

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


@pytest.mark.parametrize(
    ("options", "path"), [({}, "/v1/models"), ({"api_version": "2024-10-21"}, "/models?api-version=2024-10-21")]
)
def test_what_could_be_deployed_is_no_catalogue(options: dict[str, str], path: str) -> None:
    asked, models = listed(provider("azure", options), json({"data": [{"id": "gpt-4o"}]}), base=HOST)
    assert ([request.path for request in asked], models) == ([path], [])


def test_a_content_filter_is_the_clients() -> None:
    body = b'{"error":{"message":"filtered","code":"content_filter","status":400,"innererror":{"code":"x"}}}'
    error = provider("azure", {}).failure(400, [], body)
    assert (error.code, error.status, error.again) == ("content_filter", 400, "never")
