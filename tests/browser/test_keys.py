"""Keys on the admin page: made and shown once, changed, revoked, and what each used."""

from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest
from playwright.sync_api import APIResponse, Page, Route, expect

from tests.browser.chatting import fits
from tests.browser.conftest import CONFIG, Site, Visitor, know
from tests.browser.test_admin import HELLO
from tests.browser.test_contrast import POOR
from tests.browser.test_names import every_control_has_a_name
from tests.doubles.openai import OpenAIDouble
from tests.running import sluice

pytestmark = pytest.mark.usefixtures("one_day")  # used is counted by the month
LOCKED = "access: {keys: required, client_keys: [sk-static-key-of-a-client]}\n"
LONG = "a-very-long-name-of-a-key-for-a-partner-s-integration.eu-west-1"


@pytest.fixture
def locked() -> Iterator[Site]:
    """A gateway that asks for keys."""
    with ExitStack() as stack:
        east, west = (stack.enter_context(OpenAIDouble(key=f"key-of-{name}")) for name in ("east", "west"))
        running = stack.enter_context(sluice(LOCKED + CONFIG.format(east=east.url, west=west.url)))
        running.headers = {"x-api-key": "sk-static-key-of-a-client"}
        know(running, "east/gpt-4o", "west/gpt-4o")
        yield Site(running, east, west)


def keys(visitor: Visitor, site: Site, width: int = 1280, dark: bool = False) -> Page:
    page = visitor.open(f"{site.url}/admin#keys", width=width, dark=dark)
    expect(page.locator('[data-key^="key-"]')).to_contain_text("config.yaml")
    return page


def made(page: Page, name: str, **limits: str) -> str:
    """A key that the page makes; the key itself."""
    page.get_by_test_id("new-key").click()
    page.locator("#key-name").fill(name)
    for field, value in limits.items():
        page.locator(f"#key-{field}").fill(value)
    page.get_by_test_id("keep-key").click()
    expect(page.locator("#given-key")).to_be_focused()
    assert page.locator("#given-key").evaluate("(field) => field.scrollLeft") == 0, "its beginning is not seen"
    return page.locator("#given-key").input_value()


def ask(site: Site, key: str, model: str = "west/gpt-4o") -> httpx.Response:
    with site.running.client() as client:
        client.headers.pop("x-api-key")
        return client.post("/v1/chat/completions", json={**HELLO, "model": model}, headers={"api-key": key})


def test_a_key_is_shown_once_changed_and_revoked(locked: Site, visitor: Visitor) -> None:
    page = keys(visitor, locked)
    key = made(page, "team", requests_per_minute="2", monthly_budget="12.5", expires="2999-01-31")
    expect(page.locator("#key-given")).to_contain_text("not shown again")
    page.locator("#given-copy").click()
    assert page.evaluate("navigator.clipboard.readText()") == key
    page.get_by_test_id("given-done").click()
    expect(page.locator("#given-key")).to_have_value("")
    row = page.locator('[data-key="team"]')
    for told in ("2 calls/min", "$12.50/month", "until 2999-01-31", key[-4:]):
        expect(row).to_contain_text(told)
    assert key not in page.content()
    assert [ask(locked, key).status_code for _ in range(3)] == [200, 200, 429]

    row.get_by_test_id("change-key").press("Enter")
    expect(page.locator("#key-monthly_budget")).to_have_value("12.5")
    page.locator("#key-requests_per_minute").fill("")
    page.locator("#key-tokens_per_minute").fill("100000")
    page.get_by_test_id("keep-key").click()
    expect(row).to_contain_text("100K tokens/min")
    expect(row).not_to_contain_text("calls/min")
    expect(row.get_by_test_id("change-key")).to_be_focused()
    assert ask(locked, key).status_code == 200
    expect(row.locator('[data-name="Calls"]')).to_have_text("4")

    row.get_by_test_id("revoke-key").press("Enter")
    expect(page.locator("#key-revoking")).to_contain_text("Revoke team?")
    page.locator("#revoking-cancel").click()
    assert ask(locked, key).status_code == 200
    row.get_by_test_id("revoke-key").click()
    page.get_by_test_id("revoke").click()
    expect(row).to_have_count(0)
    expect(page.get_by_test_id("new-key")).to_be_focused()
    assert ask(locked, key).status_code == 401


def test_a_list_that_comes_late_brings_no_old_row_back(locked: Site, visitor: Visitor) -> None:
    page = keys(visitor, locked)
    made(page, "team")
    page.get_by_test_id("given-done").click()
    late: list[tuple[Route, APIResponse]] = []

    def hold(route: Route) -> None:
        if late or route.request.method != "GET":
            route.continue_()
        else:
            late.append((route, route.fetch()))

    page.route("**/admin/keys", hold)
    with page.expect_request("**/admin/keys"):
        page.evaluate("() => (location.hash = '#calls')")
        page.evaluate("() => (location.hash = '#keys')")  # which looks at once
    row = page.locator('[data-key="team"]')
    row.get_by_test_id("revoke-key").click()
    page.get_by_test_id("revoke").click()
    expect(row).to_have_count(0)
    [(route, answer)] = late
    with page.expect_event("requestfinished", lambda request: request == route.request):
        route.fulfill(response=answer)
    for _ in range(3):  # what the page does about it comes before these
        page.evaluate("() => fetch('/admin/usage').then((answer) => answer.text())")
    assert row.count() == 0
    page.unroute("**/admin/keys")


def test_what_is_wrong_is_said_and_what_was_typed_stays(locked: Site, visitor: Visitor) -> None:
    page = keys(visitor, locked)
    made(page, "team")
    page.get_by_test_id("given-done").click()
    page.get_by_test_id("new-key").click()
    page.locator("#key-name").fill("team")
    page.get_by_test_id("keep-key").click()
    expect(page.locator("#key-problem")).to_have_text("A key named team exists already.")
    visitor.forgive(409)
    page.locator("#key-name").fill("other")
    page.locator("#key-expires").fill("2001-01-01")
    page.get_by_test_id("keep-key").click()
    expect(page.locator("#key-problem")).to_contain_text("lies in the past")
    visitor.forgive(400)
    expect(page.locator("#key-name")).to_have_value("other")


def test_what_keys_used_and_models_took(locked: Site, visitor: Visitor) -> None:
    page = keys(visitor, locked)
    expect(page.get_by_test_id("usage")).to_be_hidden()
    key = made(page, "team", monthly_budget="0.0001")
    page.get_by_test_id("given-done").click()
    assert [ask(locked, key, model).status_code for model in ("east/gpt-4o", "west/gpt-4o", "west/gpt-4o")] == [
        *(200, 200, 429)
    ]
    row = page.locator('[data-key="team"]')
    expect(row).to_contain_text("Its budget of this month is spent.")
    expect(row.locator('[data-name="Cost"]')).to_contain_text("1 unpriced")
    table = page.get_by_test_id("usage")
    expect(table.locator('[data-model="gpt-4o"]').first).to_contain_text("west/gpt-4o")
    expect(table.locator("tr", has_text="east/gpt-4o").locator('[data-name="Cost"]')).to_have_text("–1 unpriced")
    expect(table.locator('[data-model=""]')).to_contain_text("Rejected before an upstream was asked")


def test_where_keys_are_open_the_page_says_that_none_is_looked_at(site: Site, visitor: Visitor) -> None:
    page = visitor.open(f"{site.url}/admin#keys")
    expect(page.get_by_test_id("keys-open")).to_contain_text("Keys are not checked")
    expect(page.locator("#view")).to_contain_text("No key yet")


@pytest.mark.parametrize(("width", "dark"), [(390, True), (768, False), (1440, True)])
def test_nothing_is_cut_off_or_hard_to_read(locked: Site, visitor: Visitor, width: int, dark: bool) -> None:
    with locked.running.client() as client:
        fields = {
            "requests_per_minute": 600,
            "tokens_per_minute": 200_000,
            "monthly_budget": 0.0001,
            "expires": "2999-01-31T12:30:00Z",
        }
        ask(locked, client.post("/admin/keys", json=fields | {"name": LONG}).json()["key"])
    page = keys(visitor, locked, width, dark)
    expect(page.locator(f'[data-key="{LONG}"]')).to_contain_text("until 2999-01-31 12:30")
    expect(page.locator("[data-model]").first).to_be_visible()
    assert fits(page) and page.evaluate(POOR) == []
    for card in page.locator(".card.flush").all():
        assert card.evaluate(
            "card => [...card.querySelectorAll('td')].every(cell => cell.scrollWidth <= cell.clientWidth + 1)"
        )
        assert card.evaluate("card => card.scrollWidth <= card.clientWidth")
    every_control_has_a_name(page)
    page.locator(f'[data-key="{LONG}"]').get_by_test_id("revoke-key").click()
    assert page.evaluate(POOR) == []
    page.locator("#revoking-cancel").click()
    made(page, "team")
    every_control_has_a_name(page)
    assert page.evaluate(POOR) == []
    page.get_by_test_id("given-done").click()
    page.get_by_test_id("new-key").click()
    every_control_has_a_name(page)
    assert page.evaluate(POOR) == []
