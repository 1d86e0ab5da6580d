"""The way of a newcomer: no key, no upstream of their own, and a real model's answer comes word by word."""

import pytest
from playwright.sync_api import expect

from tests.browser.chatting import Chat, fact, text
from tests.browser.conftest import Visitor, know
from tests.running import sluice

pytest.importorskip("xllamacpp", reason="the embedded model is not installed: scripts/install local")
WATCH = """
new MutationObserver(() => {
  const now = document.querySelector('[data-testid="answer-text"]')?.textContent.length ?? 0;
  if (now !== lengths.at(-1)) lengths.push(now);
}).observe(document.querySelector("#log"), { subtree: true, childList: true, characterData: true });
"""


def test_the_embedded_model_answers_on_screen(visitor: Visitor) -> None:
    with sluice("upstreams:\n  local: {provider: llamacpp}\n") as running:
        know(running, "local/smollm2-135m-instruct", seconds=60)
        chat = Chat(visitor.open(f"{running.url}/ui"))
        chat.page.evaluate(f"globalThis.lengths = [0]; {WATCH}")
        chat.page.locator("#tune").click()
        chat.page.locator("#temperature").fill("0")
        chat.page.locator("#max_tokens").fill("120")
        answer = chat.ask("Write a Python function that adds two numbers.")
        expect(answer).to_have_attribute("data-state", "done", timeout=60_000)
        expect(text(answer).locator("pre code").first).to_contain_text("def add")
        expect(fact(answer, "upstream")).to_have_text("local")
        expect(fact(answer, "tokens")).to_contain_text("token")
        lengths = chat.page.evaluate("lengths")
        assert len(lengths) > 3, f"it came in one piece: {lengths}"
        visitor.leave()
