"""What a model, its name or an error says is text on screen, whatever it looks like."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.chatting import Chat, ended, fits, text
from tests.browser.conftest import Site, Visitor, know
from tests.doubles.faults import Status
from tests.doubles.openai import OpenAIDouble
from tests.doubles.words import Said
from tests.running import sluice

IMAGE = "<img src=x onerror=\"document.title='taken'\">"
ATTACK = f"""\
{IMAGE}

Within a line <script>document.title='taken'</script> and <svg onload="document.title='taken'"></svg>.

[press me](javascript:document.title='taken') [or me](data:text/html,<script>1</script>) [or here](JaVaScRiPt:alert(1))

![a picture](http://elsewhere.invalid/pixel.png) <iframe src="http://elsewhere.invalid/"></iframe>

<a href="javascript:document.title='taken'">link</a> <style>body {{ display: none }}</style>
<form action="http://elsewhere.invalid/"><input name=token></form>

[honest](https://example.com/ "x\\" onmouseover=\\"document.title='taken'")

```html" onload="document.title='taken'
{IMAGE}
```

| {IMAGE} | b |
|---|---|
| <b onmouseover="document.title='taken'">c</b> | `{IMAGE}` |
"""
BROKEN = {
    "an open fence": "Look:\n\n```python\nprint('never closed'",
    "open everything": "**bold _slanted `code [link](http:// ![image]( <b | table |\n|--",
    "deep quotes": ">" * 100 + " deep",
    "too deep quotes": ">" * 3000 + " deep",
    "deep lists": "\n".join("\t" * at + "- level" for at in range(300)),
    "brackets": "[" * 20_000,
    "stars": "*a\n" * 8_000,
    "open formulas": "\\(" * 10_000 + "$a" * 10_001 + "\n\n$$\n" * 1000,
    "a huge line": "x" * 300_000,
    "nothing visible": "\u202e\u200b\x00\x1b[31m",
}


@pytest.fixture
def chat(site: Site, visitor: Visitor) -> Chat:
    return Chat(visitor.open(f"{site.url}/ui"))


def no_harm(page: Page) -> None:
    """Nothing of what was said has become part of the page, or runs."""
    foreign = "img:not([src^='/static/']), script:not([src]), iframe, style, object, embed, svg:not(.icon), #log form"
    expect(page.locator("#log, #view, #first-model").locator(foreign)).to_have_count(0)
    assert page.title() != "taken"
    attributes = "[...document.querySelectorAll('*')].flatMap((node) => node.getAttributeNames())"
    assert not [name for name in page.evaluate(attributes) if name.startswith("on")]


def test_a_model_cannot_write_into_the_page(chat: Chat, site: Site) -> None:
    site.east.said = Said(ATTACK)
    answer = chat.told("Attack!")
    expect(text(answer)).to_contain_text(IMAGE)
    expect(text(answer)).to_contain_text("<script>document.title='taken'</script>")
    told = "(links) => links.map((link) => [link.protocol, link.rel, link.target])"
    links = text(answer).locator("a").evaluate_all(told)
    assert {protocol for protocol, *_ in links} <= {"http:", "https:"}
    assert {tuple(rest) for _, *rest in links} == {("noopener noreferrer nofollow", "_blank")}
    expect(text(answer).get_by_text("press me")).to_be_visible()
    expect(text(answer).locator("a", has_text="press me")).to_have_count(0)
    no_harm(chat.page)


def test_broken_markdown_is_shown_all_the_same(chat: Chat, site: Site) -> None:
    for what, said in BROKEN.items():
        site.east.said = Said(said)
        answer = chat.told("Say it.")
        assert text(answer).evaluate("(node) => node.textContent.length") > 0, what
        assert fits(chat.page), what
    no_harm(chat.page)


def test_errors_and_prompts_are_text(chat: Chat, site: Site, visitor: Visitor) -> None:
    site.east.script(Status(400, IMAGE))
    answer = chat.ask(IMAGE)
    ended(answer, "failed")
    visitor.forgive(400)
    expect(answer.get_by_test_id("failure")).to_contain_text(IMAGE)
    expect(chat.page.get_by_test_id("prompt-text")).to_have_text(IMAGE)
    expect(chat.page.get_by_test_id("conversation")).to_contain_text(IMAGE)
    no_harm(chat.page)


def test_names_of_models_are_text(visitor: Visitor) -> None:
    with OpenAIDouble(key="", models=(IMAGE, "plain")) as double:
        with sluice(f"upstreams:\n  east: {{provider: openai, base_url: {double.url!r}}}\n") as running:
            know(running, "east/plain")
            page = visitor.open(f"{running.url}/ui")
            page.get_by_test_id("model-picker").first.click()
            options = page.locator("#first-model [role=option]")
            expect(options.filter(has_text=IMAGE)).to_be_visible()
            no_harm(page)
            page = visitor.open(f"{running.url}/admin#models")
            expect(page.get_by_test_id("catalogue")).to_contain_text(IMAGE)
            no_harm(page)
            visitor.leave()
