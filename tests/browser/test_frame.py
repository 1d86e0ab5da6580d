"""The side column on narrow screens: the keyboard goes into it, stays in it, and comes back."""

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Site, Visitor


@pytest.mark.parametrize("path", ["/ui", "/admin"])
def test_the_keyboard_goes_into_the_side_column_and_back(site: Site, visitor: Visitor, path: str) -> None:
    page = visitor.open(f"{site.url}{path}", width=390)
    menu, main = page.locator("#open-side"), page.locator("#main")
    menu.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#side .brand")).to_be_focused()
    expect(main).to_have_attribute("inert", "")
    page.keyboard.press("Escape")
    expect(menu).to_be_focused()
    menu.click()
    page.set_viewport_size({"width": 1280, "height": 800})
    expect(main).not_to_have_attribute("inert", "")
