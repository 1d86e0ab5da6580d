"""Operators make, change and revoke client keys while calls go on."""

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from proxy.store.contract import Batch, Counts
from proxy.store.sqlite import SqliteStore
from tests.doubles.openai import OpenAIDouble
from tests.running import Running, sluice
from tests.waiting import wait_for

pytestmark = pytest.mark.usefixtures("one_day")
STATIC = "sk-static-key-of-a-client"
CONFIG = """
access: {{keys: required, client_keys: [sk-short, {static}]}}
upstreams:
  east: {{provider: openai, base_url: {url}, api_key: sk-east, prices: {{gpt-4o: {{input: 1000000, output: 1000000}}}}}}
routes: [{{model: kept, to: east/gpt-4o, cache: {{exact: 1h, sampled: true}}}}]
log: {{format: json}}
"""
HELLO = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
def proxy(east: OpenAIDouble) -> Iterator[Running]:
    with sluice(CONFIG.format(url=east.url, static=STATIC)) as running:
        yield running


@pytest.fixture
def admin(proxy: Running) -> Iterator[httpx.Client]:
    with proxy.client() as client:
        yield client


def make(admin: httpx.Client, name: str = "team", **fields: Any) -> str:
    answer = admin.post("/admin/keys", json={"name": name} | fields)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["key"])


def ask(proxy: Running, key: str, **body: Any) -> httpx.Response:
    return proxy.chat(HELLO | body, authorization=f"Bearer {key}")


def listed(admin: httpx.Client, name: str = "team") -> dict[str, Any]:
    (found,) = [each for each in admin.get("/admin/keys").json()["data"] if each["name"] == name]
    return dict(found)


def error(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def test_a_key_is_made_used_changed_and_revoked(proxy: Running, admin: httpx.Client) -> None:
    key = make(admin)
    with proxy.client() as client:
        for header, value in (("authorization", f"bearer {key}"), ("x-api-key", key), ("api-key", key)):
            assert client.post("/v1/chat/completions", json=HELLO, headers={header: value}).status_code == 200
            assert client.get("/v1/models", headers={header: value}).status_code == 200
            chat = {"message": "hi", "model": "gpt-4o"}
            assert client.post("/chat", json=chat, headers={header: value}).status_code == 200
    answer = admin.patch("/admin/keys/team", json={"requests_per_minute": 7, "expires": "2999-01-01"})
    assert (answer.status_code, answer.json()["requests_per_minute"]) == (200, 7)
    assert listed(admin)["expires"] == "2999-01-01T00:00:00Z"
    assert admin.patch("/admin/keys/team", json={"expires": None}).json()["expires"] is None
    assert admin.delete("/admin/keys/team").status_code == 204
    assert error(ask(proxy, key)) == (401, "invalid_api_key")
    assert ask(proxy, STATIC).status_code == 200
    assert error(admin.delete("/admin/keys/team")) == (404, "client_invalid_request")
    assert error(admin.patch("/admin/keys/team", json={})) == (404, "client_invalid_request")


def test_the_list_has_every_key_and_none_of_their_secrets(admin: httpx.Client) -> None:
    key = make(admin)
    answer = admin.get("/admin/keys")
    assert key not in answer.text and STATIC not in answer.text and answer.headers["cache-control"] == "no-store"
    short, static, team = answer.json()["data"]
    assert (short["source"], short["hint"], static["hint"]) == ("config", "…", f"…{STATIC[-4:]}")
    assert static["name"].startswith("key-") and static["live"] and static["monthly_budget"] is None
    assert team["hint"] == f"sk-sluice-…{key[-4:]}" and team["source"] == "store" and team["live"]
    assert datetime.now(UTC) - datetime.fromisoformat(team["created"]) < timedelta(minutes=1)


def test_names_are_taken_once_and_what_is_wrong_is_named(proxy: Running, admin: httpx.Client) -> None:
    key = make(admin)
    again = admin.post("/admin/keys", json={"name": "team"})
    assert error(again) == (409, "client_invalid_request") and again.json()["error"]["param"] == "name"
    assert ask(proxy, key).status_code == 200
    for method, path, body in (
        ("POST", "/admin/keys", {"name": "other", "expires": "yesterday"}),
        ("PATCH", "/admin/keys/team", {"expires": "2001-01-01"}),
    ):
        answer = admin.request(method, path, json=body)
        assert error(answer) == (400, "client_invalid_request") and answer.json()["error"]["param"] == "expires"


def test_what_another_process_decides_is_followed_and_never_undone(proxy: Running, admin: httpx.Client) -> None:
    key = make(admin)
    with closing(SqliteStore(proxy.path.parent / "sluice.db")) as store:
        store.write(
            "keys", "other", store.read("keys")["team"].replace('"requests_per_minute":null', '"requests_per_minute":9')
        )
        store.write("keys", "team", None)
        assert [each["name"] for each in admin.get("/admin/keys").json()["data"]][2:] == ["other"]
        assert error(admin.patch("/admin/keys/team", json={"requests_per_minute": 3})) == (
            404,
            "client_invalid_request",
        )
        assert list(store.read("keys")) == ["other"], "a key that was revoked elsewhere is not made anew"
        assert ask(proxy, key).headers["x-ratelimit-limit-requests"] == "9"
        store.write("keys", "other", None)
    wait_for(lambda: ask(proxy, key).status_code == 401)


def test_a_cached_answer_is_not_served_to_a_later_key_of_that_name(proxy: Running, admin: httpx.Client) -> None:
    key = make(admin)
    shown = [ask(proxy, key, model="kept").headers["x-sluice-cache"] for _ in range(2)]
    admin.delete("/admin/keys/team")
    assert shown + [ask(proxy, make(admin), model="kept").headers["x-sluice-cache"]] == ["miss", "hit", "miss"]


def test_the_log_names_keys_and_never_shows_them(admin: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "sluice")
    key = make(admin)
    admin.patch("/admin/keys/team", json={"requests_per_minute": 3})
    admin.delete("/admin/keys/team")
    said = [record.getMessage() for record in caplog.records if "key" in record.getMessage()]
    assert said == [f"client key team {what}" for what in ("created", "changed", "revoked")]
    assert key[10:-4] not in caplog.text


def test_open_keys_look_at_none(east: OpenAIDouble) -> None:
    with sluice(f"upstreams: {{east: {{provider: openai, base_url: {east.url}, api_key: sk-east}}}}") as running:
        with running.client() as admin:
            key = make(admin, requests_per_minute=1)
        assert [ask(running, key).status_code for _ in range(3)] == [200] * 3


def test_over_its_requests_a_key_is_refused_with_a_time_to_retry(proxy: Running, admin: httpx.Client) -> None:
    key, other = make(admin, requests_per_minute=2), make(admin, "other")
    first, second, third = (ask(proxy, key) for _ in range(3))
    assert [each.status_code for each in (first, second, third)] == [200, 200, 429]
    left = [each.headers["x-ratelimit-remaining-requests"] for each in (first, second, third)]
    assert left == ["1", "0", "0"], "and not the upstream's"
    assert first.headers["x-ratelimit-limit-tokens"] == "2000000", "the upstream's own, for which this key has no limit"
    assert error(third) == (429, "policy_rate_limited") and 1 <= int(third.headers["retry-after"]) <= 60
    assert "requests_per_minute" in third.json()["error"]["message"] and "x-should-retry" not in third.headers
    assert ask(proxy, other).headers["x-ratelimit-limit-requests"] == "10000", "the upstream's own"
    assert proxy.metric("sluice_requests_total", code="policy_rate_limited", status="429") == 1
    told = admin.get("/admin/calls").json()["data"][1]
    assert (told["code"], told["key"]) == ("policy_rate_limited", "team")
    with proxy.client() as client:
        assert client.get("/v1/models", headers={"api-key": key}).status_code == 200, "that is no call"
    admin.patch("/admin/keys/team", json={"requests_per_minute": 3})
    assert [ask(proxy, key).status_code for _ in range(2)] == [200, 429]
    admin.patch("/admin/keys/team", json={"requests_per_minute": None})
    assert ask(proxy, key).status_code == 200


def test_streams_and_failures_carry_what_is_left(proxy: Running, admin: httpx.Client) -> None:
    key = make(admin, requests_per_minute=5)
    assert ask(proxy, key, stream=True).headers["x-ratelimit-remaining-requests"] == "4"
    unknown = ask(proxy, key, model="nowhere/x")
    assert (unknown.status_code, unknown.headers["x-ratelimit-remaining-requests"]) == (404, "3")
    assert "x-ratelimit-limit-requests" not in ask(proxy, key, messages=7).headers, "that was no call yet"
    assert ask(proxy, key).headers["x-ratelimit-remaining-requests"] == "2"


def test_over_its_tokens_a_key_waits_and_a_kept_answer_takes_none(proxy: Running, admin: httpx.Client) -> None:
    key = make(admin, tokens_per_minute=1000)
    told = [int(ask(proxy, key, model="kept").headers["x-ratelimit-remaining-tokens"]) for _ in range(4)]
    assert told[0] == 1000 and told[1] < told[0] and len(set(told[1:])) == 1
    admin.patch("/admin/keys/team", json={"tokens_per_minute": 1})
    refused = ask(proxy, key, model="kept")
    assert error(refused) == (429, "policy_rate_limited") and "tokens_per_minute" in refused.json()["error"]["message"]


def test_many_at_once_overrun_nothing(proxy: Running, admin: httpx.Client, east: OpenAIDouble) -> None:
    key = make(admin, requests_per_minute=10)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda at: ask(proxy, key, stream=at % 2 == 1).status_code, range(16)))
    assert sorted(answers) == [200] * 10 + [429] * 6
    assert len(east.calls) == 10


def test_what_keys_used_is_summed_up(proxy: Running, admin: httpx.Client, east: OpenAIDouble) -> None:
    key = make(admin, requests_per_minute=4)
    answers = [ask(proxy, key, model="kept"), ask(proxy, key, model="kept"), ask(proxy, key, model="gpt-4o-mini")]
    assert [each.status_code for each in (*answers, ask(proxy, key, model="nowhere/x"), ask(proxy, key))] == [
        *(200, 200, 200, 404, 429)
    ]
    ask(proxy, STATIC)
    paid, unpriced = answers[0].json()["usage"], answers[2].json()["usage"]
    used = listed(admin)["used"]
    assert used == {
        "calls": 5,
        "failed": 2,
        "input": paid["prompt_tokens"] + unpriced["prompt_tokens"],
        "output": paid["completion_tokens"] + unpriced["completion_tokens"],
        "cached": 0,
        "reasoning": 0,
        "cost": float(paid["total_tokens"]),
        "unpriced": 1,
    }
    today = datetime.now(UTC).date()
    usage = admin.get("/admin/usage").json()
    assert (usage["from"], usage["to"]) == (str(today.replace(day=1)), str(today))
    assert [(each["key"][:4], each["calls"]) for each in usage["data"]] == [("key-", 1), ("team", 5)]
    by_model = admin.get("/admin/usage", params={"by": "model"}).json()["data"]
    assert [(each["model"], each["calls"]) for each in by_model] == [
        (None, 1),
        ("gpt-4o", 3),
        ("gpt-4o-mini", 1),
        ("other", 1),
    ]
    both = admin.get("/admin/usage", params={"by": "day,upstream", "from": str(today), "to": str(today)}).json()["data"]
    assert [(each["day"], each["upstream"], each["calls"]) for each in both] == [
        (str(today), None, 1),
        (str(today), "east", 5),
    ]
    assert admin.get("/admin/usage", params={"from": "2001-01-01", "to": "2001-12-31"}).json()["data"] == []


def test_days_from_long_ago_are_gone_with_the_next_start(east: OpenAIDouble, tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'old.db'}"
    with closing(SqliteStore(tmp_path / "old.db")) as before:
        before.add(Batch("w", 1, 1, {("team", "2001-01-31", "east", "gpt-4o"): Counts(1)}))
        days = {"from": "2001-01-01", "to": "2001-12-31"}
        with sluice(CONFIG.format(url=east.url, static=STATIC) + f"store: {store}") as proxy, proxy.client() as admin:
            wait_for(lambda: not before.sums(days["from"], days["to"], ("day",)))
            assert admin.get("/admin/usage", params=days).json()["data"] == []


@pytest.mark.parametrize(
    "query",
    ["from=yesterday", "to=2026-02-30", "from=20261101", "from=2026-11-30&to=2026-11-01", "by=colour", "by=key,key", "by=key,", "from=9999-01-01"],
)  # fmt: skip
def test_what_cannot_be_read_of_a_question_is_named(admin: httpx.Client, query: str) -> None:
    answer = admin.get(f"/admin/usage?{query}")
    assert error(answer) == (400, "client_invalid_request")
    assert answer.json()["error"]["param"] == query.partition("=")[0]


def test_a_budget_that_is_spent_ends_a_key_s_month(proxy: Running, admin: httpx.Client) -> None:
    key = make(admin, monthly_budget=1)
    first, second = ask(proxy, key), ask(proxy, key)
    assert (first.status_code, error(second)) == (200, (429, "policy_rate_limited"))
    assert second.headers["x-should-retry"] == "false" and int(second.headers["retry-after"]) >= 1
    assert "monthly_budget" in second.json()["error"]["message"]
    assert "x-ratelimit-limit-tokens" not in second.headers, "nobody was asked"
    shown = listed(admin)
    assert (shown["live"], shown["reason"]) == (False, "Its budget of this month is spent.")
    admin.patch("/admin/keys/team", json={"monthly_budget": 1_000_000})
    assert ask(proxy, key).status_code == 200 and listed(admin)["live"]
    admin.delete("/admin/keys/team")
    again = make(admin, monthly_budget=1)
    assert error(ask(proxy, again)) == (429, "policy_rate_limited"), "a name's month goes on"


def test_a_budget_given_later_counts_what_was_spent_before(proxy: Running, admin: httpx.Client) -> None:
    key = make(admin)
    assert ask(proxy, key).status_code == 200
    wait_for(lambda: admin.get("/admin/usage").json()["data"])  # it is written down
    assert not admin.patch("/admin/keys/team", json={"monthly_budget": 1}).json()["live"]
    assert error(ask(proxy, key)) == (429, "policy_rate_limited")


def test_a_call_of_an_unknown_price_counts_nothing_towards_a_budget_and_is_reported(
    proxy: Running, admin: httpx.Client
) -> None:
    key = make(admin, monthly_budget=1)
    assert [ask(proxy, key, model="gpt-4o-mini").status_code for _ in range(2)] == [200, 200]
    used = listed(admin)["used"]
    assert (used["cost"], used["unpriced"]) == (0, 2)


def test_a_store_that_fails_keeps_no_call_waiting_and_hides_what_is_not_known(
    proxy: Running, admin: httpx.Client
) -> None:
    key = make(admin, monthly_budget=1_000_000)
    place = proxy.path.parent / "sluice.db"
    proxy.app.decisions.store.close()
    kept = place.read_bytes()
    place.write_bytes(b"this is no database" * 100)
    assert ask(proxy, key).status_code == 200
    assert listed(admin)["used"] is None
    assert error(admin.get("/admin/usage")) == (500, "proxy_internal")
    assert error(admin.post("/admin/keys", json={"name": "other"})) == (500, "proxy_internal")
    place.write_bytes(kept)
    assert wait_for(lambda: listed(admin)["used"])["calls"] == 1
