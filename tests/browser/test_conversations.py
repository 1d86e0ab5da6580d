"""Conversations: kept in the browser, renamed, deleted, exported."""

from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.chatting import Chat, ended, text
from tests.browser.conftest import Site, Visitor
from tests.doubles.faults import HoldAfter, Say


@pytest.fixture
def chat(site: Site, visitor: Visitor) -> Chat:
    return Chat(visitor.open(f"{site.url}/ui"))


def test_a_conversation_outlives_the_page(chat: Chat, site: Site) -> None:
    site.east.script(Say("forty-two"))
    chat.told("What is the answer?")
    chat.page.reload()
    expect(text(chat.answer)).to_have_text("forty-two")  # the one in hand stays in hand
    chat.page.locator("#new").click()
    chat.page.reload()
    expect(chat.page.locator("#log")).to_be_empty()
    chat.page.get_by_test_id("conversation").get_by_text("What is the answer?").click()
    expect(text(chat.answer)).to_have_text("forty-two")
    chat.told("And the question?")
    assert [message["content"] for message in site.east.calls[-1].json["messages"]][:2] == [
        "What is the answer?",
        "forty-two",
    ]


def test_an_answer_that_was_left_shows_what_came(chat: Chat, site: Site) -> None:
    site.east.script(Say("one two three four", HoldAfter(3)))
    answer = chat.ask("Count.")
    expect(text(answer)).to_have_text("one two")
    chat.page.locator("#new").click()
    expect(chat.page.locator("#welcome")).to_be_visible()
    chat.page.get_by_test_id("conversation").get_by_text("Count.").click()
    expect(text(chat.answer)).to_have_text("one two")
    ended(chat.answer, "stopped")


def test_renamed_deleted_and_brought_back(chat: Chat) -> None:
    chat.told("Hello?")
    rows = chat.page.get_by_test_id("conversation")
    rows.hover()
    rows.get_by_test_id("rename").click()
    chat.page.get_by_label("Name of the conversation").fill("Greetings")
    chat.page.keyboard.press("Enter")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("Greetings")
    rows.hover()
    rows.get_by_test_id("delete").click()
    expect(rows).to_have_count(0)
    expect(chat.page.locator("#welcome")).to_be_visible()
    chat.page.get_by_test_id("toast").get_by_text("Undo").click()
    expect(rows).to_contain_text("Greetings")


def test_exported_as_markdown(chat: Chat, site: Site, tmp_path: Path) -> None:
    expect(chat.page.locator("#export")).to_be_disabled()
    site.east.script(Say("*forty-two*"))
    chat.told("What is the answer?")
    with chat.page.expect_download() as download:
        chat.page.locator("#export").click()
    assert download.value.suggested_filename == "What-is-the-answer-.md"
    download.value.save_as(tmp_path / "kept.md")
    kept = (tmp_path / "kept.md").read_text()
    assert kept.startswith("# What is the answer?\n\n## You\n\nWhat is the answer?\n\n## east/gpt-4o")
    assert kept.endswith("\n\n*forty-two*\n")


def test_the_chosen_theme_is_kept(chat: Chat) -> None:
    page = chat.page
    assert page.evaluate("getComputedStyle(document.body).colorScheme || 'light dark'") == "light dark"
    page.locator("#theme").click()
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.locator("#theme").click()
    expect(page.locator("html")).not_to_have_attribute("data-theme", "dark")
