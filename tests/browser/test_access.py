"""Keys and tokens: the pages ask for them, say when one is wrong, and go on with the right one."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.chatting import Chat, ended
from tests.browser.conftest import Site, Visitor, know
from tests.doubles.openai import OpenAIDouble
from tests.running import Running, sluice

CONFIG = """
access: {{keys: required, client_keys: [the-client-key], admin_token: the-admin-token}}
upstreams:
  east: {{provider: openai, base_url: "{east}"}}
"""


@pytest.fixture
def locked() -> Iterator[Running]:
    with OpenAIDouble(key="") as east, sluice(CONFIG.format(east=east.url)) as running:
        running.headers = {"authorization": "Bearer the-client-key"}
        know(running, "east/gpt-4o")
        yield running


def test_the_chat_asks_for_a_key_once(locked: Running, visitor: Visitor) -> None:
    chat = Chat(visitor.open(f"{locked.url}/ui"))
    dialog, key = chat.page.locator("#key-dialog"), chat.page.locator("#key")
    expect(dialog).to_be_visible()
    chat.page.locator("#key-cancel").click()
    expect(dialog).to_be_hidden()
    expect(chat.page.locator("#trouble")).to_contain_text("key")
    answer = chat.ask("Hello?")
    expect(dialog).to_be_visible()
    key.fill("a-wrong-key")
    chat.page.keyboard.press("Enter")
    expect(key).to_have_value("")
    expect(dialog).to_be_visible()
    key.fill("the-client-key")
    chat.page.keyboard.press("Enter")
    ended(answer)
    visitor.forgive(401)
    chat.told("And again?")
    chat.page.reload()
    chat.choose("east/gpt-4o")
    chat.told("Still?")
    assert "the-client-key" not in chat.page.evaluate("JSON.stringify(localStorage)")


def test_the_time_that_the_page_waits_for_a_key_is_no_silence_of_the_gateway(locked: Running, visitor: Visitor) -> None:
    assert visitor.context.browser
    with visitor.context.browser.new_context() as context:  # a clock is of a whole context
        context.clock.install()
        page = context.new_page()
        page.goto(f"{locked.url}/ui")
        page.locator("#key-cancel").click()
        answer = Chat(page).ask("Hello?")
        expect(page.locator("#key-dialog")).to_be_visible()
        page.clock.fast_forward(60_000)
        expect(answer.get_by_test_id("silence")).to_be_hidden()
        page.locator("#key").fill("the-client-key")
        page.keyboard.press("Enter")
        ended(answer)


def test_the_admin_page_asks_for_the_token(locked: Running, visitor: Visitor) -> None:
    page = visitor.open(f"{locked.url}/admin")
    page.wait_for_url("**/admin/login")
    page.locator("#token").fill("a-wrong-token")
    page.keyboard.press("Enter")
    expect(page.locator("#problem")).to_contain_text("token")
    visitor.forgive(401)
    page.locator("#token").fill("the-admin-token")
    page.keyboard.press("Enter")
    page.wait_for_url("**/admin")
    expect(page.locator('.standings [data-upstream="east"]')).to_be_visible()
    assert page.evaluate("document.cookie") == ""
    page.locator('.side nav a[href="#models"]').click()
    expect(page.locator('[data-model="east/gpt-4o"]')).to_be_visible()  # without any client key
    page.get_by_test_id("logout").click()
    page.wait_for_url("**/admin/login")
    page.goto(f"{locked.url}/admin")
    page.wait_for_url("**/admin/login")
    visitor.forgive(401)


def test_who_logs_in_again_comes_back_to_the_same_view(locked: Running, visitor: Visitor) -> None:
    page = visitor.open(f"{locked.url}/admin#models")
    page.wait_for_url("**/admin/login#models")
    page.locator("#token").fill("the-admin-token")
    page.keyboard.press("Enter")
    page.wait_for_url("**/admin#models")
    expect(page.get_by_test_id("logout")).to_be_visible()
    page.context.clear_cookies()  # the session is over
    page.wait_for_url("**/admin/login#models")
    visitor.forgive(401)


def test_what_is_typed_into_a_dialog_outlives_the_session(locked: Running, visitor: Visitor) -> None:
    page = visitor.open(f"{locked.url}/admin/login#personas")

    def log_in(page: Page) -> None:
        page.locator("#token").fill("the-admin-token")
        page.keyboard.press("Enter")
        page.wait_for_url("**/admin#personas")

    log_in(page)
    page.get_by_test_id("new-persona").click()
    page.locator("#persona-name").fill("poet")
    page.locator("#persona-model").fill("gpt-4o")
    page.context.clear_cookies()  # the session is over
    page.get_by_test_id("keep-persona").click()
    expect(page.locator("#persona-problem")).to_contain_text("Log in again in another tab")
    log_in(visitor.open(f"{locked.url}/admin/login#personas"))
    page.get_by_test_id("keep-persona").click()
    expect(page.locator('[data-persona="poet"]')).to_be_visible()
    visitor.forgive(401)


def test_without_a_token_there_is_nothing_to_log_in_with_or_out_of(site: Site, visitor: Visitor) -> None:
    page = visitor.open(f"{site.url}/admin")
    expect(page.locator('.standings [data-upstream="east"]')).to_be_visible()
    expect(page.get_by_test_id("logout")).to_be_hidden()
    page.goto(f"{site.url}/admin/login")
    page.locator("#token").fill("some-token")
    page.keyboard.press("Enter")
    expect(page.locator("#problem")).to_contain_text("access.admin_token is not set")
    visitor.forgive(401)
