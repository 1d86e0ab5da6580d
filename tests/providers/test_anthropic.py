import orjson
import pytest

from proxy.errors import SluiceError
from proxy.providers.anthropic import MOST_PAGES, Anthropic
from proxy.providers.contract import Answer, Model
from tests.providers.orders import Json, order, target

CLAUDE = Anthropic()


def test_the_request_has_key_version_and_the_client_s_betas() -> None:
    headers = [
        (b"anthropic-beta", b"files-api"),
        (b"anthropic-version", b"2099-01-01"),
        (b"authorization", b"Bearer stray"),
        (b"x-stainless-os", b"Linux"),
        (b"openai-organization", b"org"),
        (b"x-team", b"a"),
    ]
    request = CLAUDE.request(order(CLAUDE, {}, at=target(CLAUDE, "k"), headers=headers))
    assert (request.method, request.path) == ("POST", "/messages")
    assert request.headers == [
        (b"content-type", b"application/json"),
        (b"anthropic-version", b"2023-06-01"),
        (b"x-api-key", b"k"),
        (b"anthropic-beta", b"files-api"),
        (b"x-team", b"a"),
    ]


def test_the_version_is_the_config_s() -> None:
    request = CLAUDE.request(order(CLAUDE, {}, at=target(CLAUDE, api_version="2026-10-21")))
    assert (b"anthropic-version", b"2026-10-21") in request.headers


def _error(kind: str, message: str) -> bytes:
    return orjson.dumps({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"})


TOO_LONG = "prompt is too long: 208310 tokens > 200000 maximum"
ROOM = "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000"


@pytest.mark.parametrize(
    "status, kind, said, code, seen, again",
    [
        (400, "invalid_request_error", "max_tokens: must be positive", "client_invalid_request", 400, "never"),
        (400, "invalid_request_error", TOO_LONG, "context_length_exceeded", 400, "never"),
        (400, "invalid_request_error", ROOM, "context_length_exceeded", 400, "never"),
        (400, "invalid_request_error", "Your credit balance is too low to go on", "upstream_auth_failed", 502, "next"),
        (401, "authentication_error", "invalid x-api-key", "upstream_auth_failed", 502, "next"),
        (402, "billing_error", "no funds left", "upstream_auth_failed", 502, "next"),
        (403, "permission_error", "not yours", "upstream_auth_failed", 502, "next"),
        (404, "not_found_error", "model: claude-x", "model_not_found", 404, "never"),
        (413, "request_too_large", "Request exceeds the maximum size", "client_too_large", 413, "never"),
        (429, "rate_limit_error", "slow down", "upstream_rate_limited", 429, "same"),
        (500, "api_error", "Internal server error", "upstream_error", 502, "same"),
        (504, "timeout_error", "late", "upstream_timeout", 504, "same"),
        (529, "overloaded_error", "Overloaded", "upstream_overloaded", 503, "same"),
    ],
)
def test_failures_by_status_and_type(status: int, kind: str, said: str, code: str, seen: int, again: str) -> None:
    error = CLAUDE.failure(status, [(b"retry-after", b"7")], _error(kind, said))
    assert (error.code, error.status, error.again) == (code, seen, again)
    assert (said in error.message) is (code != "upstream_auth_failed")
    if status in (429, 529):
        assert error.retry_after == 7


def test_an_answer_of_something_else_is_the_upstream_s_fault() -> None:
    error = CLAUDE.failure(404, [], b"<html>nginx</html>")
    assert (error.code, error.status) == ("upstream_error", 502) and "nginx" not in error.message


def _list(*pages: Answer) -> tuple[list[Model], list[str]]:
    listing = CLAUDE.catalog(target(CLAUDE, "k"))
    asked: list[str] = []
    request = next(listing)
    for page in pages:
        assert (b"x-api-key", b"k") in request.headers and request.method == "GET"
        asked.append(request.path)
        try:
            request = listing.send(page)
        except StopIteration as stop:
            return list(stop.value), asked
    raise AssertionError(f"it went on to ask for {request.path}")


def _page(entries: list[object], more: bool = False) -> Answer:
    fields: Json = {"data": entries, "has_more": more, "last_id": "a/b"}
    return Answer(200, [], orjson.dumps(fields))


def test_the_catalogue_page_by_page() -> None:
    able = {
        "image_input": {"supported": True},
        "pdf_input": {"supported": False},
        "thinking": {"supported": True, "types": {"adaptive": {"supported": True}, "enabled": {"supported": True}}},
    }
    new = {"id": "new", "created_at": "2026-01-01T00:00:00Z", "max_input_tokens": 200_000, "max_tokens": 64_000}
    fixed = able | {"thinking": {"types": {"adaptive": {"supported": True}, "enabled": {"supported": False}}}}
    newest = {"id": "newest", "capabilities": fixed}
    models, asked = _list(_page([new | {"capabilities": able}, 5], more=True), _page([newest, {"id": "old"}]))
    assert asked == ["/models?limit=1000", "/models?limit=1000&after_id=a%2Fb"]
    assert models == [
        Model(
            "new",
            context=200_000,
            output=64_000,
            inputs=("text", "image"),
            created=1767225600,
            owner="anthropic",
            extra={"thinking": "adaptive"},
        ),
        Model(
            "newest",
            inputs=("text", "image"),
            owner="anthropic",
            extra={"thinking": "adaptive", "sampling": False},
        ),
        Model("old", owner="anthropic"),
    ]


def _able(effort: tuple[str, ...] = (), **types: bool) -> Json:
    """Capabilities as types/model_capabilities.py of SDK 2.14.0 has them."""
    efforts = {level: {"supported": level in effort} for level in ("low", "medium", "high", "xhigh", "max")}
    return {
        "thinking": {"supported": True, "types": {name: {"supported": taken} for name, taken in types.items()}},
        "effort": {"supported": bool(effort), **efforts},
    }


@pytest.mark.parametrize(
    "able, extra",
    [
        (
            _able(("low", "high", "max"), adaptive=True, between_tools=False, disabled=True, enabled=True),
            {"thinking": "adaptive", "off": "disabled", "efforts": ("low", "high", "max")},
        ),
        (
            _able(("low", "max"), adaptive=True, between_tools=True, disabled=False, enabled=False),
            {"thinking": "adaptive", "off": "between_tools", "efforts": ("low", "max"), "sampling": False},
        ),
        (
            _able(("low",), adaptive=True, between_tools=False, disabled=False, enabled=False),
            {"thinking": "adaptive", "off": None, "efforts": ("low",), "sampling": False},
        ),
        (
            _able(adaptive=False, between_tools=False, disabled=True, enabled=False),
            {"thinking": None, "off": "disabled"},
        ),
    ],
)
def test_the_catalogue_says_how_a_model_thinks(able: Json, extra: Json) -> None:
    (model,), _ = _list(_page([{"id": "m", "capabilities": able}]))
    assert model.extra == extra


def test_pages_without_end_are_left() -> None:
    models, asked = _list(*[_page([{"id": "x"}], more=True)] * (MOST_PAGES + 1))
    assert len(asked) == MOST_PAGES


@pytest.mark.parametrize(
    "answer, code",
    [
        (Answer(401, [], _error("authentication_error", "invalid x-api-key")), "upstream_auth_failed"),
        (Answer(200, [], b"<html>"), "upstream_malformed"),
        (Answer(200, [], b"{}"), "upstream_malformed"),
    ],
)
def test_what_is_no_list_is_a_failure(answer: Answer, code: str) -> None:
    with pytest.raises(SluiceError) as caught:
        _list(answer)
    assert caught.value.code == code
