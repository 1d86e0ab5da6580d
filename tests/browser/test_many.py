"""Forty upstreams: the pages still leave room for what they are about."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.browser.chatting import Chat, fits
from tests.browser.conftest import Visitor, know
from tests.doubles.openai import OpenAIDouble
from tests.running import Running, sluice

NAMES = [f"upstream-number-{at}" for at in range(40)]


@pytest.fixture
def many() -> Iterator[Running]:
    with OpenAIDouble(key="") as double:
        lines = "".join(f"  {name}: {{provider: openai, base_url: {double.url!r}}}\n" for name in NAMES)
        with sluice(f"upstreams:\n{lines}default_upstream: {NAMES[0]}\n") as running:
            know(running, *(f"{name}/gpt-4o" for name in NAMES))
            yield running


@pytest.mark.parametrize("width", [1280, 390])
def test_models_can_be_picked(many: Running, visitor: Visitor, width: int) -> None:
    chat = Chat(visitor.open(f"{many.url}/ui", width=width))
    picker = chat.page.locator("#first-model")
    picker.get_by_test_id("model-picker").click()
    expect(picker.get_by_role("button", name=NAMES[-1])).to_be_attached()
    panel, listed = (picker.locator(part).bounding_box() for part in (".picker-panel", ".picker-list"))
    assert panel and listed and listed["height"] > 200
    assert listed["y"] + listed["height"] <= panel["y"] + panel["height"]
    picker.get_by_role("button", name=NAMES[-1]).click()
    chat.choose(f"{NAMES[-1]}/gpt-4o")
    chat.told("Hello?")


@pytest.mark.parametrize("width", [1280, 390])
def test_the_overview_and_the_models_are_in_sight(many: Running, visitor: Visitor, width: int) -> None:
    for name in NAMES:
        many.chat({"model": f"{name}/gpt-4o", "messages": []})
    page = visitor.open(f"{many.url}/admin", width=width)
    expect(page.locator(".legend").first).to_contain_text(NAMES[-1])
    plot = page.locator(".plot").first.bounding_box()
    assert plot and plot["y"] + plot["height"] < 800
    page.goto(f"{many.url}/admin#models")
    expect(page.locator("[data-model]").first).to_be_in_viewport()
    assert fits(page)
