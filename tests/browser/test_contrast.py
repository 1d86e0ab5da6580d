"""What stands on the pages can be read: WCAG's contrast AA, light and dark; and no field is so small that iOS zooms in."""

import pytest
from playwright.sync_api import expect

from tests.browser.chatting import Chat, ended
from tests.browser.conftest import Site, Visitor
from tests.browser.test_admin import HELLO, VIEWS
from tests.doubles.faults import Status
from tests.doubles.words import Said

POOR = """() => {
  const paint = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgba = (colour) => {
    paint.clearRect(0, 0, 1, 1);
    paint.fillStyle = colour;
    paint.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = paint.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3]));
  const line = (part) => (part /= 255) <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * line(r) + 0.7152 * line(g) + 0.0722 * line(b);
  const ground = (node) => {
    const layers = [];
    for (let at = node; at; at = at.parentElement) layers.push(rgba(getComputedStyle(at).backgroundColor));
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255]);
  };
  const opacity = (node) => node ? getComputedStyle(node).opacity * opacity(node.parentElement) : 1;
  const poor = [];
  const look = (node, colour, what, least) => {
    if (!node.checkVisibility({opacityProperty: true, visibilityProperty: true}) || node.closest(":disabled")) return;
    const below = ground(node), ink = rgba(colour);
    ink[3] *= opacity(node);
    const [dark, bright] = [light(over(ink, below)), light(below)].sort((a, b) => a - b);
    const ratio = (bright + 0.05) / (dark + 0.05);
    if (ratio < least) poor.push(`${what}: ${ratio.toFixed(2)}`);
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const { data, parentElement: node } = texts.currentNode;
    if (data.trim()) look(node, getComputedStyle(node).color, data.trim().slice(0, 40), 4.5);
  }
  for (const field of document.querySelectorAll("input, textarea, select")) {
    if (field.placeholder) look(field, getComputedStyle(field, "::placeholder").color, field.placeholder, 4.5);
    if (field.matches(".input") && field !== document.activeElement) look(field.parentElement, getComputedStyle(field).borderColor, `edge of ${field.id}`, 3);
  }
  return poor;
}"""


@pytest.mark.parametrize("dark", [False, True])
def test_the_chat_can_be_read(site: Site, visitor: Visitor, dark: bool) -> None:
    page = visitor.open(f"{site.url}/ui", dark=dark)
    chat = Chat(page)
    assert page.evaluate(POOR) == []
    site.east.said = Said("# Words\n\n> quoted, `code`, [linked](https://example.com/)\n\n```python\nprint(1)\n```")
    chat.told("Hello?")
    site.west.script(Status(503))
    chat.choose("house")
    chat.told("Hello?")
    site.east.script(Status(400))
    chat.choose("east/gpt-4o")
    ended(chat.ask("Hello?"), "failed")
    visitor.forgive(400)
    page.locator("#tune").click()
    page.locator("#first-model").get_by_test_id("model-picker").click()
    expect(page.locator('#first-model [data-model="east/gpt-4o"]')).to_be_visible()
    assert page.evaluate(POOR) == []


@pytest.mark.parametrize("dark", [False, True])
def test_the_admin_page_can_be_read(site: Site, visitor: Visitor, dark: bool) -> None:
    site.west.script(Status(503))
    site.running.chat({**HELLO, "model": "house"}).raise_for_status()
    site.east.script(Status(400))
    site.running.chat(HELLO)
    page = visitor.open(f"{site.url}/admin", dark=dark)
    for view in VIEWS:
        page.locator(f'.side nav a[href="#{view}"]').click()
        expect(page.locator(f'#view[data-view="{view}"]')).not_to_be_empty()
        assert page.evaluate(POOR) == [], view


def test_no_field_makes_a_phone_zoom_in(site: Site, visitor: Visitor) -> None:
    assert visitor.context.browser
    small = "() => [...document.querySelectorAll('input, select, textarea')].filter((field) => parseFloat(getComputedStyle(field).fontSize) < 16).length"
    with visitor.context.browser.new_context(has_touch=True, is_mobile=True) as phone:
        page = phone.new_page()
        for path in ("/ui", "/admin#routes", "/admin/login"):
            page.goto(f"{site.url}{path}")
            assert page.evaluate("() => matchMedia('(pointer: coarse)').matches")
            assert page.evaluate(small) == 0, path


def test_what_is_chosen_and_has_the_keyboard_shows_in_forced_colours(site: Site, visitor: Visitor) -> None:
    """Windows' contrast themes take backgrounds and shadows away."""
    page = visitor.open(f"{site.url}/ui")
    page.emulate_media(forced_colors="active")
    expect(page.locator("#composer")).to_have_css("outline-style", "solid")
    page.locator("#first-model").get_by_test_id("model-picker").click()
    panel = page.locator("#first-model").get_by_test_id("model-panel")
    for shown in ("[role=option].marked", "[aria-pressed=true]", "input"):
        expect(panel.locator(shown)).to_have_css("outline-style", "solid")
    expect(panel.locator("[role=option]:not(.marked)").first).to_have_css("outline-style", "none")
    page.goto(f"{site.url}/admin#upstreams")
    expect(page.locator(".side [aria-current]")).to_have_css("outline-style", "solid")
    page.emulate_media(forced_colors="none")
