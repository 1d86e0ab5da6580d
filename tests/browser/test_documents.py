"""The page of the HTTP API: what a link leads to is open."""

import pytest
from playwright.sync_api import expect

from tests.browser.chatting import fits
from tests.browser.conftest import Site, Visitor


@pytest.mark.parametrize("width", [1280, 390])
def test_a_link_opens_what_it_leads_to(site: Site, visitor: Visitor, width: int) -> None:
    page = visitor.open(f"{site.url}/docs", width=width)
    page.locator("summary", has_text="/v1/chat/completions").first.click()
    page.locator('a[href="#schema-ChatRequest"]').first.click()
    schema = page.locator("#schema-ChatRequest")
    expect(schema).to_be_visible()
    expect(schema).to_be_in_viewport()
    expect(page.locator("summary", has_text="ChatRequest").first).to_be_in_viewport()
    assert fits(page)
