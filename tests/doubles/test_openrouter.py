"""The OpenRouter double: OpenAI's dialect, with comments, costs, and errors of its own."""

from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from tests.doubles.faults import ContentFilter, CutAfter, ErrorEvent, ErrorIn200, RoleOnlyThen, Status
from tests.doubles.openrouter import PROCESSING, ChoiceError, OpenRouterDouble
from tests.doubles.openrouter_models import many
from tests.doubles.words import Said, derived
from tests.streams import chunks

DONE = "data: [DONE]\n\n"
BODY: dict[str, Any] = {"model": "openai/gpt-4o", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
def double() -> Iterator[OpenRouterDouble]:
    with OpenRouterDouble() as started:
        yield started


def ask(double: OpenRouterDouble, **more: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {double.key}"}
    return httpx.post(f"{double.url}/chat/completions", json={**BODY, **more}, headers=headers, trust_env=False)


def test_a_stream_has_comments_and_its_cost_unasked(double: OpenRouterDouble) -> None:
    double.said = Said("One two three.", reasoning="Hm.")
    response = ask(double, stream=True)
    assert response.content.startswith(PROCESSING)
    told = chunks(response.text)
    assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in told) == "One two three."
    assert "".join(chunk["choices"][0]["delta"].get("reasoning") or "" for chunk in told) == "Hm."
    assert {chunk["choices"][0]["delta"]["role"] for chunk in told} == {"assistant"}
    whole = ask(double).json()
    assert told[-1]["usage"]["cost"] == whole["usage"]["cost"] > 0
    assert [chunk for chunk in told if "usage" in chunk] == told[-1:]
    assert (whole["provider"], whole["choices"][0]["native_finish_reason"]) == ("Double", "stop")
    assert response.headers["x-generation-id"] == told[0]["id"]


def test_the_official_client_reads_it(double: OpenRouterDouble) -> None:
    question = openai.types.chat.ChatCompletionUserMessageParam(role="user", content="hi")
    with openai.OpenAI(base_url=double.url, api_key=double.key, max_retries=0) as client:
        stream = client.chat.completions.create(model="openai/gpt-4o:nitro", messages=[question], stream=True)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == derived("hi")


@pytest.mark.parametrize(("code", "done"), [(429, False), ("server_error", True)])
def test_errors_in_mid_stream(double: OpenRouterDouble, code: int | str, done: bool) -> None:
    double.script(ErrorEvent(5, code, with_done=done))
    response = ask(double, stream=True)
    assert response.text.endswith(DONE) is done
    last = chunks(response.text.removesuffix(DONE) + DONE)[-1]
    assert (last["error"]["code"], last["choices"][0]["finish_reason"]) == (code, "error")


def test_errors_with_status_200(double: OpenRouterDouble) -> None:
    double.script(ErrorIn200(), ChoiceError())
    assert ask(double).json()["error"]["code"] == 500
    choice = ask(double).json()["choices"][0]
    assert (choice["finish_reason"], choice["error"]["code"], "index" in choice) == ("error", 502, False)


@pytest.mark.parametrize("status", [402, 403, 408, 429, 502, 503, 524, 529])
def test_errors_carry_their_status_as_code(double: OpenRouterDouble, status: int) -> None:
    double.script(Status(status))
    response = ask(double, stream=True)
    assert (response.status_code, response.json()["error"]["code"]) == (status, status)
    assert response.json()["error"]["metadata"]["error_type"]


def test_moderation_unknown_models_and_keys(double: OpenRouterDouble) -> None:
    double.script(ContentFilter())
    assert ask(double).json()["error"]["metadata"]["reasons"] == ["violence"]
    unknown = ask(double, model="llama3.2:latest")
    assert (unknown.status_code, unknown.json()["error"]["availability"]["code"]) == (400, "model_not_found")
    assert ask(double, provider={"order": ["x"], "sorted": 1}).status_code == 400
    assert ask(double, provider={"order": ["x"]}, top_k=4).status_code == 200
    bare = httpx.post(f"{double.url}/chat/completions", json=BODY)
    assert bare.json()["error"]["message"] == "Missing Authentication header"


def test_fallback_models_and_the_comment_before_the_role(double: OpenRouterDouble) -> None:
    body = {"models": ["meta-llama/llama-3.3-70b-instruct:free", "openai/gpt-4o"], "model": None}
    assert ask(double, **body).json()["model"] == "meta-llama/llama-3.3-70b-instruct:free"
    double.script(RoleOnlyThen(CutAfter(0, "chunk-eof")))
    assert ask(double, stream=True).text.count("\n\n") == 2


def test_the_catalogue_and_the_account(double: OpenRouterDouble) -> None:
    models = {model["id"]: model for model in httpx.get(f"{double.url}/models").json()["data"]}
    assert models["some/unknown-limits"]["context_length"] is None
    assert models["openrouter/auto"]["pricing"]["prompt"] == "-1"
    headers = {"authorization": f"Bearer {double.key}"}
    assert httpx.get(f"{double.url}/key", headers=headers).json()["data"]["limit"] is None
    assert httpx.get(f"{double.url}/key").status_code == 401
    assert httpx.get(f"{double.url}/credits", headers=headers).status_code == 403
    generation = ask(double).json()["id"]
    told = httpx.get(f"{double.url}/generation?id={generation}", headers=headers).json()["data"]
    assert told["tokens_completion"] == 60
    endpoints = httpx.get(f"{double.url}/models/openai/gpt-4o/endpoints", headers=headers).json()["data"]
    assert endpoints["endpoints"][0]["status"] == 0
    with OpenRouterDouble(models=many(400)) as full:
        assert len(httpx.get(f"{full.url}/models").json()["data"]) == 400
