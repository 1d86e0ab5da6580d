"""Everything that can be pressed or filled in has a name that a screen reader says, and a place on a small screen."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.chatting import Chat, fits
from tests.browser.conftest import Site, Visitor
from tests.doubles.faults import Say
from tests.doubles.words import Said
from tests.waiting import wait_for

CONTROLS = set(
    "button link textbox searchbox combobox spinbutton checkbox radio switch slider option listbox menuitem tab dialog "
    "DisclosureTriangle image columnheader".split()
)
CODE = "Look:\n\n```python\nprint(1)\n```\n\n[a link](https://example.com/)"


def unnamed(page: Page) -> list[str]:
    """The controls in the browser's own accessibility tree that have no name."""
    session = page.context.new_cdp_session(page)
    nodes: list[dict[str, Any]] = session.send("Accessibility.getFullAXTree")["nodes"]
    session.detach()
    controls = [node for node in nodes if not node["ignored"] and node["role"]["value"] in CONTROLS]
    assert controls
    return [node["role"]["value"] for node in controls if not node["name"]["value"].strip()]


def every_control_has_a_name(page: Page) -> None:
    """The tree follows the page a moment later, so a list that was just drawn gets a second look."""
    with suppress(AssertionError):
        wait_for(lambda: not unnamed(page), 3)
    assert unnamed(page) == []


def misnamed(page: Page) -> list[str]:
    """What shows one text and is called by another: who steers by voice says what is shown."""
    within = "(node) => !node.ariaLabel.toLowerCase().includes(node.textContent.trim().toLowerCase())"
    shown: list[str] = page.evaluate(
        f"[...document.querySelectorAll('button[aria-label], a[aria-label]')].filter({within}).map((node) => node.ariaLabel)"
    )
    return shown


def outside(page: Page) -> list[str]:
    """The texts of headings, links and buttons that are in no landmark, where who goes by these never comes."""
    nodes = "[...document.querySelectorAll('h1, h2, a, button:not(.veil)')].filter((node) => node.checkVisibility())"
    within = "(node) => !node.closest('body > .frame > :is(header, nav, main), body > main, dialog')"
    found: list[str] = page.evaluate(f"{nodes}.filter({within}).map((node) => node.textContent.trim())")
    return found


def everything_of_the_chat(site: Site, page: Page) -> None:
    chat = Chat(page)
    site.east.said = Said(CODE)
    site.west.script(Say(CODE))
    page.locator("#compare").click()
    chat.choose("west/gpt-4o", "second-model")
    chat.told("Hello?")
    page.locator("#tune").click()
    page.locator("#first-model").get_by_test_id("model-picker").click()
    expect(page.locator('#first-model [data-model="east/gpt-4o"]')).to_be_visible()


def editing(site: Site, page: Page) -> None:
    Chat(page).told("Hello?")
    page.get_by_test_id("edit").click()
    if page.locator("#open-side").is_visible():
        page.locator("#open-side").click()
    page.get_by_test_id("conversation").hover()
    page.get_by_test_id("rename").click()


@pytest.mark.parametrize("act", [everything_of_the_chat, editing])
@pytest.mark.parametrize("width", [1280, 375])
def test_chat(site: Site, visitor: Visitor, width: int, act: Callable[[Site, Page], None]) -> None:
    page = visitor.open(f"{site.url}/ui", width=width, dark=width == 375)
    act(site, page)
    every_control_has_a_name(page)
    assert misnamed(page) == outside(page) == []
    expect(page.get_by_role("heading", level=1)).to_have_count(1)
    expect(page.get_by_role("region", name="Turn")).to_have_count(0)  # as many landmarks as questions would be none
    assert fits(page)


def test_admin(site: Site, visitor: Visitor) -> None:
    site.running.chat({"model": "house", "messages": [{"role": "user", "content": "Hello?"}]}).raise_for_status()
    with site.running.client() as client:
        client.post("/admin/keys", json={"name": "team"}).raise_for_status()
    page = visitor.open(f"{site.url}/admin")
    expect(page.locator("#main")).to_have_attribute("tabindex", "0")  # so that the keyboard scrolls it in every browser
    marks = {
        "overview": ".standings li",
        "upstreams": "[data-upstream=west]",
        "models": "[data-model]",
        "personas": "[data-persona]",
        "keys": "[data-key=team]",
        "routes": "[data-route]",
        "calls": "[data-call]",
        "cache": ".card",
        "vapi": ".card",
        "configuration": "dd",
    }
    for view, mark in marks.items():
        page.locator(f'.side nav a[href="#{view}"]').click()
        expect(page.locator(f'#view[data-view="{view}"] {mark}').first).to_be_visible()
        assert unnamed(page) == misnamed(page) == outside(page) == [], view
    page.locator('.side nav a[href="#personas"]').click()
    page.get_by_test_id("new-persona").click()
    every_control_has_a_name(page)


def test_login(site: Site, visitor: Visitor) -> None:
    assert unnamed(visitor.open(f"{site.url}/admin/login")) == []
