"""Conversations: kept in the browser, renamed, deleted, exported."""

import json
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.chatting import Chat, ended, text
from tests.browser.conftest import Site, Visitor
from tests.doubles.faults import Held, HoldAfter, Json, Say
from tests.doubles.server import Fault
from tests.doubles.words import Said


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


@pytest.mark.parametrize(("fault", "state"), [(Held(), "waiting"), (HoldAfter(3), "streaming")])
def test_a_reload_within_an_answer_is_not_blamed_on_the_gateway(
    chat: Chat, site: Site, fault: Fault, state: str
) -> None:
    site.east.script(fault)
    ended(chat.ask("Count."), state)
    chat.page.reload()
    expect(chat.answer.get_by_test_id("failure")).to_contain_text("The page was left while this answer was on its way.")


def test_what_is_typed_is_there_when_the_page_is_opened_again(chat: Chat, site: Site) -> None:
    prompt = chat.page.locator("#prompt")
    prompt.fill("A long question")
    chat.page.goto(f"{site.url}/admin")
    chat.page.go_back()
    expect(prompt).to_have_value("A long question")
    chat.page.reload()
    expect(prompt).to_have_value("A long question")
    chat.told("Another one")
    chat.page.reload()
    expect(text(chat.answer)).to_be_visible()
    expect(prompt).to_have_value("")


BLOCKS = """\
Some **bold** words of [one][somewhere] who [goes on](https://example.com).

- a list
- of `things`

```python
print("and a program")
```

"""
LONG = BLOCKS * 600 + "[somewhere]: https://example.com/somewhere\n"


def test_a_long_answer_is_the_same_when_it_is_opened_again(chat: Chat, site: Site) -> None:
    site.east.script(Say(LONG))
    blocks = text(chat.told("Tell me all.")).locator("> *")
    expect(blocks).to_have_count(3 * 600)
    first = blocks.first.inner_html()
    assert "https://example.com/somewhere" in first
    chat.page.reload()
    expect(blocks).to_have_count(3 * 600)
    expect(blocks.first.get_by_role("link", name="one")).to_be_visible()
    assert blocks.first.inner_html() == first


REFERRING = """\
See [the docs], a > [quote] and [1].

[the docs]: https://example.com/docs "Title"

> [quote]: https://example.com/quote

[1]: Smith, J. (2020)
"""
SHOWN = """async (cuts) => {
  const { Prose } = await import(document.querySelector("link[href*='/chat/markdown.']").href);
  const prose = new Prose(document.createElement("div"));
  for (const text of cuts) {
    prose.take(text, text === cuts.at(-1));
    while (prose.more());
  }
  return prose.root.innerHTML;
}"""


@pytest.mark.parametrize("before", ["", "A first block.\n\n", "x\n\n" * 5000])
def test_links_do_not_depend_on_how_the_network_cuts_them(chat: Chat, before: str) -> None:
    said = before + REFERRING
    cuts = [said[:at] for at in range(len(before) + 1, len(said) + 1)]
    grown = chat.page.evaluate(SHOWN, cuts)
    assert "https://example.com/docs" in grown and "https://example.com/quote" in grown
    assert grown == chat.page.evaluate(SHOWN, [said])


def test_a_program_of_any_length_takes_nothing_else_with_it(chat: Chat, site: Site) -> None:
    site.east.script(Say("```\n" + "print(1)\n" * 10_000 + "```\n\nThat is **all**."))
    answer = text(chat.told("Write much."))
    for _ in range(2):
        expect(answer.locator("strong")).to_have_text("all")
        expect(answer.locator(".code")).to_have_count(1)
        chat.page.reload()


def test_of_a_long_conversation_the_newest_answers_are_there_at_once(chat: Chat) -> None:
    chat.told("Hello?")
    chat.page.evaluate(
        """(text) => {
          const [{ id }] = JSON.parse(localStorage["sluice.chat.list"]);
          const kept = JSON.parse(localStorage[`sluice.chat.${id}`]);
          const [turn] = kept.turns;
          const answers = [{ ...turn.answers[0], text }];
          kept.turns = Array.from({ length: 60 }, (_, at) => ({ ...turn, id: `${turn.id}${at}`, answers }));
          localStorage[`sluice.chat.${id}`] = JSON.stringify(kept);
        }""",
        BLOCKS * 10,
    )
    chat.page.reload()
    expect(text(chat.answer).locator(".code").last).to_be_in_viewport()
    chat.page.locator(".scroller").evaluate("(node) => (node.scrollTop = 0)")
    expect(chat.turns.first.locator(".code").first).to_be_in_viewport()
    expect(chat.page.locator(".prose:empty")).to_have_count(0)


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


def test_a_conversation_is_called_by_its_first_line(chat: Chat) -> None:
    """By the tab, the heading and the list alike, at once; what is too long ends behind a whole character."""
    expect(chat.page).to_have_title("Sluice")
    chat.told("a" * 59 + "\N{GRINNING FACE} and so on\nSecond line")
    called = "a" * 59 + "\N{GRINNING FACE}"
    expect(chat.page).to_have_title(f"{called} · Sluice")
    expect(chat.page.get_by_role("heading", level=1)).to_have_text(called)
    expect(chat.page.get_by_test_id("conversation")).to_have_text(called)
    chat.page.locator("#new").click()
    expect(chat.page).to_have_title("Sluice")


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


def test_a_conversation_is_printed_whole_and_dark_on_white(site: Site, visitor: Visitor) -> None:
    chat = Chat(visitor.open(f"{site.url}/ui", dark=True))
    page = chat.page
    site.east.said = Said("one\n\n" * 40)
    for _ in range(3):
        chat.told("Count.")
    pages = page.pdf().count(b"/Type /Page\n")
    assert pages >= 3
    page.emulate_media(media="print")
    for shown in (page.locator("#title"), chat.turns.first, chat.turns.last):
        expect(shown).to_be_visible()
    for hidden in ("#side", "#composer", "#tune", "[data-testid=edit]"):
        expect(page.locator(hidden).first).to_be_hidden()
    assert page.evaluate("getComputedStyle(document.querySelector('.prose')).color") == "rgb(28, 32, 34)"
    page.emulate_media(media="screen")


def test_the_chosen_theme_is_kept(chat: Chat) -> None:
    page = chat.page
    assert page.evaluate("getComputedStyle(document.body).colorScheme || 'light dark'") == "light dark"
    page.locator("#theme").click()
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.locator("#theme").click()
    expect(page.locator("html")).not_to_have_attribute("data-theme", "dark")


def said(site: Site) -> list[str]:
    """The words of the last call that reached the default upstream."""
    return [message["content"] for message in site.east.calls[-1].json["messages"]]


def second_tab(chat: Chat, visitor: Visitor, site: Site) -> Chat:
    """Another tab with the conversation that this one has in hand."""
    other = Chat(visitor.open(f"{site.url}/ui"))
    other.page.get_by_test_id("conversation").first.get_by_role("button").first.click()
    expect(other.turns).to_have_count(chat.turns.count())
    return other


def test_two_tabs_with_one_conversation_go_on_together(chat: Chat, site: Site, visitor: Visitor) -> None:
    site.east.script(Say("first"), Say("second"), Say("third"), Say("fourth"))
    chat.told("One?")
    other = second_tab(chat, visitor, site)
    other.told("Two?")
    expect(chat.turns).to_have_count(2)
    chat.told("Three?")
    assert said(site) == ["One?", "first", "Two?", "second", "Three?"]
    expect(other.turns).to_have_count(3)
    chat.page.reload()
    expect(chat.turns).to_have_count(3)


def test_what_another_tab_adds_leaves_the_editor_of_a_prompt_alone(chat: Chat, site: Site, visitor: Visitor) -> None:
    chat.told("One?")
    other = second_tab(chat, visitor, site)
    chat.page.get_by_test_id("edit").click()
    editor = chat.page.get_by_test_id("edit-prompt")
    editor.fill("One, or rather")
    other.told("Two?")
    expect(chat.turns).to_have_count(2)
    expect(editor).to_be_focused()
    expect(editor).to_have_value("One, or rather")


def test_two_tabs_that_are_answered_at_once_keep_both_answers(chat: Chat, site: Site, visitor: Visitor) -> None:
    chat.told("One?")
    other = second_tab(chat, visitor, site)
    site.east.script(Say("one two three", HoldAfter(3)), Say("four"))
    left = chat.ask("Two?")
    ended(left, "streaming")
    expect(other.turns).to_have_count(2)
    other.told("Three?")
    site.east.release()
    for page in (chat.page, other.page):
        expect(page.locator(".turn")).to_have_count(3)
        expect(page.locator('.answer[data-state="done"]')).to_have_count(3)
        assert {*page.get_by_test_id("prompt-text").all_text_contents()} == {"One?", "Two?", "Three?"}
    other.page.reload()
    expect(other.page.locator('.answer[data-state="done"]')).to_have_count(3)


def test_what_a_tab_keeps_without_knowing_of_the_other_loses_nothing(chat: Chat, site: Site, visitor: Visitor) -> None:
    chat.told("One?")
    other = second_tab(chat, visitor, site).page
    other.goto(f"{site.url}/admin")  # the same origin, with nothing that follows
    name = "`sluice.chat.${JSON.parse(localStorage['sluice.chat.list'])[0].id}`"
    before = other.evaluate(f"localStorage[{name}]")
    chat.told("Two?")
    kept = json.loads(before)
    kept["turns"].append({**kept["turns"][0], "id": "zz", "prompt": "Three?"})
    kept["revision"] += 1
    other.evaluate(f"text => (localStorage[{name}] = text)", json.dumps(kept))
    expect(chat.page.get_by_test_id("prompt-text")).to_have_text(["One?", "Two?", "Three?"])
    stored = f"JSON.parse(localStorage[{name}]).turns.map((turn) => turn.prompt)"
    assert chat.page.evaluate(stored) == ["One?", "Two?", "Three?"]


def test_a_conversation_that_another_tab_deletes_is_gone_here_too(chat: Chat, site: Site, visitor: Visitor) -> None:
    chat.told("One?")
    other = second_tab(chat, visitor, site)
    row = other.page.get_by_test_id("conversation")
    row.hover()
    row.get_by_test_id("delete").click()
    expect(chat.page.locator("#welcome")).to_be_visible()
    chat.told("Two?")
    assert said(site) == ["Two?"]


def test_a_page_that_is_closed_keeps_what_had_come(chat: Chat, site: Site, visitor: Visitor) -> None:
    chat.told("One?")
    other = second_tab(chat, visitor, site)
    site.east.script(Say("one two three four", HoldAfter(3)))
    expect(text(chat.ask("Count."))).to_have_text("one two")
    visitor.pages.remove(chat.page)
    chat.page.close(run_before_unload=True)
    expect(text(other.answer)).to_have_text("one two")
    expect(other.answer.get_by_test_id("failure")).to_contain_text("The page was left")


@pytest.mark.parametrize("how", ["edit", "regenerate"])
def test_later_turns_that_are_cut_off_can_be_brought_back(chat: Chat, site: Site, how: str) -> None:
    site.east.script(Say("first"), Say("second"), Say("third"), Say("fourth"))
    for prompt in ("One?", "Two?", "Three?"):
        chat.told(prompt)
    if how == "edit":
        chat.turns.first.get_by_test_id("edit").click()
        chat.page.get_by_test_id("edit-prompt").press("Enter")
    else:
        chat.turns.first.get_by_test_id("regenerate").click()
    expect(text(chat.answer)).to_have_text("fourth")
    expect(chat.turns).to_have_count(1)
    chat.page.get_by_test_id("toast").get_by_role("button").click()
    expect(chat.turns).to_have_count(3)
    chat.page.reload()
    expect(chat.page.get_by_test_id("answer-text")).to_have_text(["first", "second", "third"])


def test_an_answer_of_tool_calls_alone_stays_in_the_conversation(chat: Chat, site: Site, tmp_path: Path) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": '{"city":"Oslo"}'}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    site.east.script(Json({"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}))
    chat.told("Weather?")
    chat.told("And now?")
    assert said(site) == ["Weather?", 'look_up {"city":"Oslo"}', "And now?"]
    with chat.page.expect_download() as download:
        chat.page.locator("#export").click()
    download.value.save_as(tmp_path / "kept.md")
    assert '```\nlook_up {"city":"Oslo"}\n```' in (tmp_path / "kept.md").read_text()


def test_a_new_conversation_is_listed_while_its_first_answer_comes(chat: Chat, site: Site) -> None:
    site.east.script(HoldAfter(3))
    ended(chat.ask("Hello?"), "streaming")
    rows = chat.page.get_by_test_id("conversation")
    expect(rows).to_have_text("Hello?")
    rows.hover()
    rows.get_by_test_id("rename").click()
    chat.page.get_by_label("Name of the conversation").fill("Greet")
    site.east.release()
    ended(chat.answer)
    chat.page.keyboard.type("ings")  # nobody took the field away
    chat.page.keyboard.press("Enter")
    expect(rows).to_have_text("Greetings")


def test_the_list_leaves_alone_what_has_not_changed(chat: Chat) -> None:
    for question in ("One?", "Two?", "Three?"):
        chat.page.locator("#new").click()
        chat.told(question)
    rows = chat.page.get_by_test_id("conversation")
    expect(rows).to_have_text(["Three?", "Two?", "One?"])
    rows.evaluate_all("(all) => all.forEach((row) => row.setAttribute('data-seen', ''))")
    rows.nth(2).get_by_role("button").first.click()
    chat.told("And more?")
    expect(rows).to_have_text(["One?", "Three?", "Two?"])
    expect(chat.page.locator("[data-seen]")).to_have_count(3)
    expect(chat.page.locator("[aria-current]")).to_have_text("One?")


def test_the_keyboard_stays_where_it_was_in_the_list(chat: Chat) -> None:
    for prompt in ("One?", "Two?"):
        chat.told(prompt)
        chat.page.locator("#new").click()
    page, rows = chat.page, chat.page.get_by_test_id("conversation")
    row = rows.filter(has_text="One?")
    row.get_by_role("button").first.focus()
    page.keyboard.press("Enter")
    expect(chat.turns).to_have_count(1)
    expect(row.get_by_role("button").first).to_be_focused()
    row.get_by_test_id("rename").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    expect(row.get_by_role("button").first).to_be_focused()
    rows.filter(has_text="Two?").get_by_test_id("delete").focus()
    page.keyboard.press("Enter")
    expect(rows).to_have_count(1)
    expect(page.locator("#new")).to_be_focused()


def test_a_browser_that_keeps_nothing_can_chat_all_the_same(site: Site, visitor: Visitor) -> None:
    visitor.open(f"{site.url}/docs")
    page = visitor.open(f"{site.url}/docs")  # a second one is closed behind the test
    for storage in ("localStorage", "sessionStorage"):  # as with all cookies and site data blocked
        page.add_init_script(
            f"Object.defineProperty(window, '{storage}', {{get() {{ throw new DOMException('blocked'); }}}});"
        )
    page.goto(f"{site.url}/ui")
    chat = Chat(page)
    chat.told("One?")
    chat.told("Two?")
    expect(chat.turns).to_have_count(2)
    expect(page.get_by_test_id("conversation")).to_have_text("One?")
    expect(page.locator("#conversations")).to_contain_text("does not allow storage")
    expect(page.get_by_test_id("toast")).to_have_count(0)
    page.locator("#theme").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")


def test_a_browser_without_room_says_so_and_loses_nothing_that_is_on_screen(chat: Chat) -> None:
    chat.told("One?")
    chat.page.evaluate("""() => {
      for (let size = 1 << 22; size; size >>= 1) {
        try { while (size) localStorage.setItem(`ballast${localStorage.length}`, "x".repeat(size)); } catch {}
      }
    }""")
    chat.told("Two?")
    expect(chat.page.get_by_test_id("toast")).to_contain_text("no room left")
    chat.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # another tab, and back
    expect(chat.turns).to_have_count(2)
    chat.told("Three?")
    expect(chat.turns).to_have_count(3)
