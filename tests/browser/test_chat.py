"""The chat page: an answer as it comes, what is known about it, and what can be done with it."""

import pytest
from playwright.sync_api import expect

from tests.browser.chatting import Chat, ended, fact, text
from tests.browser.conftest import Site, Visitor
from tests.doubles.faults import HoldAfter, Say, Status, events
from tests.doubles.server import Double
from tests.doubles.wire import Answer, Hold, Received
from tests.doubles.words import Said
from tests.waiting import wait_for


@pytest.fixture
def chat(site: Site, visitor: Visitor) -> Chat:
    return Chat(visitor.open(f"{site.url}/ui"))


def asked(site: Site) -> list[dict[str, str]]:
    """The messages of the last call that reached the default upstream."""
    return list(site.east.calls[-1].json["messages"])


def breaks_when_released(double: Double, request: Received) -> Answer:
    """Five events, and an error when the test says so."""
    answer = double.answer(request)
    failure = double.failed_event(request, "The engine fell out.", "server_error")
    return answer.with_acts(*events(answer)[:5], Hold(), failure)


def test_an_answer_is_on_screen_while_it_is_still_coming(chat: Chat, site: Site) -> None:
    site.east.script(Say("one two three four five", HoldAfter(4)))
    answer = chat.ask("Count to five.")
    ended(answer, "streaming")
    expect(text(answer)).to_have_text("one two three")
    expect(chat.page.locator("#stop")).to_be_visible()
    expect(chat.page.get_by_test_id("edit")).to_have_css("pointer-events", "none")
    site.east.release()
    ended(answer)
    expect(chat.page.get_by_test_id("edit")).to_have_css("pointer-events", "auto")
    expect(text(answer)).to_have_text("one two three four five")
    expect(fact(answer, "upstream")).to_have_text("east")
    expect(fact(answer, "tokens")).to_have_text("5 tokens")
    expect(fact(answer, "first-token")).to_contain_text("first token")
    expect(fact(answer, "proxy")).to_contain_text("proxy")
    expect(chat.page.locator("#send")).to_be_visible()
    expect(chat.page.get_by_test_id("prompt-text")).to_have_text("Count to five.")


@pytest.mark.parametrize("how", ["button", "escape"])
def test_stopping_reaches_the_upstream(chat: Chat, site: Site, how: str) -> None:
    site.east.script(HoldAfter(6))
    answer = chat.ask("Talk for ever.")
    ended(answer, "streaming")
    if how == "button":
        chat.page.locator("#stop").click()
    else:
        chat.page.keyboard.press("Escape")
    ended(answer, "stopped")
    wait_for(lambda: site.east.disconnects)
    expect(text(answer)).not_to_be_empty()
    expect(answer.get_by_test_id("stopped")).to_be_visible()
    ended(chat.told("And now?"))


def test_a_conversation_is_sent_whole_and_an_edit_cuts_it(chat: Chat, site: Site) -> None:
    site.east.script(Say("first"), Say("second"), Say("third"))
    chat.told("One?")
    chat.told("Two?")
    said = [message["content"] for message in asked(site)]
    assert said == ["One?", "first", "Two?"]
    chat.turns.first.get_by_test_id("edit").click()
    chat.page.get_by_test_id("edit-prompt").fill("Eins?")
    chat.page.get_by_test_id("edit-prompt").press("Enter")
    expect(text(chat.answer)).to_have_text("third")
    expect(chat.turns).to_have_count(1)
    assert asked(site) == [{"role": "user", "content": "Eins?"}]


def test_regenerating_asks_the_same_again(chat: Chat, site: Site) -> None:
    site.east.script(Say("heads"), Say("tails"))
    answer = chat.told("Toss a coin.")
    answer.get_by_test_id("regenerate").click()
    expect(text(chat.answer)).to_have_text("tails")
    expect(chat.turns).to_have_count(1)
    first, second = (call.json["messages"] for call in site.east.calls)
    assert first == second


def test_two_models_side_by_side_and_one_is_kept(chat: Chat, site: Site) -> None:
    site.east.script(Say("from the east"), Say("again"))
    site.west.script(Say("from the west"))
    chat.page.locator("#compare").click()
    chat.choose("west/gpt-4o", "second-model")
    chat.ask("Where are you?")
    answers = chat.page.get_by_test_id("answer")
    expect(text(answers.nth(0))).to_have_text("from the east")
    expect(text(answers.nth(1))).to_have_text("from the west")
    left, right = answers.nth(0).bounding_box(), answers.nth(1).bounding_box()
    assert left and right and left["x"] + left["width"] <= right["x"] and left["y"] == right["y"]
    ended(answers.nth(1))
    answers.nth(1).get_by_test_id("keep").click()
    expect(answers).to_have_count(1)
    expect(text(answers)).to_have_text("from the west")
    expect(chat.page.locator("#second-model")).to_be_hidden()
    chat.told("Still there?")
    assert len(site.west.calls) == 2


def test_system_prompt_and_parameters_are_sent(chat: Chat, site: Site) -> None:
    chat.page.locator("#tune").click()
    chat.page.locator("#system").fill("Be brief.")
    chat.page.locator("#temperature").fill("0.3")
    chat.page.locator("#max_tokens").fill("7")
    chat.page.locator("#top_p").fill("0.9")
    answer = chat.told("Hello?")
    sent = site.east.calls[-1].json
    assert sent["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (sent["temperature"], sent["max_tokens"], sent["top_p"]) == (0.3, 7, 0.9)
    expect(answer.get_by_test_id("cut-by-limit")).to_be_visible()


def test_the_picker_shows_what_is_live_by_upstream(chat: Chat, site: Site) -> None:
    picker = chat.page.locator("#first-model")
    picker.get_by_test_id("model-picker").click()
    expect(picker.locator('[data-model="east/gpt-4o"]')).to_be_visible()
    expect(picker.locator('[data-model^="asleep/"]')).to_have_count(0)
    picker.locator('button[data-upstream="west"]').click()
    expect(picker.locator('[data-model^="east/"]')).to_have_count(0)
    expect(picker.locator('[data-model="persona/pirate"]')).to_be_visible()
    picker.locator('button[data-upstream="east"]').click()
    expect(picker.locator('[data-model="persona/pirate"]')).to_have_count(0)
    picker.get_by_test_id("model-search").fill("4o-MINI")
    expect(picker.locator("[role=option]")).to_have_count(1)
    chat.page.keyboard.press("Enter")
    expect(picker.get_by_test_id("model-picker")).to_contain_text("east/gpt-4o-mini")
    expect(chat.page.locator("#prompt")).to_be_focused()
    chat.told("Hello?")
    assert site.east.calls[-1].json["model"] == "gpt-4o-mini"


def test_on_a_phone_the_list_of_the_second_model_hides_no_picker(site: Site, visitor: Visitor) -> None:
    page = visitor.open(f"{site.url}/ui", width=390)
    page.locator("#compare").click()
    button = page.locator("#second-model").get_by_test_id("model-picker").bounding_box()
    panel = page.locator("#second-model").get_by_test_id("model-panel").bounding_box()
    assert button and panel and button["y"] + button["height"] <= panel["y"]


def test_the_picker_offers_what_is_for_other_work_only_to_who_looks_for_it(chat: Chat) -> None:
    picker = chat.page.locator("#first-model")
    picker.get_by_test_id("model-picker").click()
    expect(picker.locator('[data-model="east/gpt-4o"]')).to_be_visible()
    expect(picker.locator('[data-model$="/text-embedding-3-small"]')).to_have_count(0)
    picker.get_by_test_id("model-search").fill("embed")
    expect(picker.locator('[data-model$="/text-embedding-3-small"]')).to_have_count(2)


def test_a_persona_answers_from_its_own_upstream_only(chat: Chat, site: Site, visitor: Visitor) -> None:
    chat.choose("persona/pirate")
    answer = chat.told("Who are you?")
    expect(fact(answer, "upstream")).to_have_text("west")
    assert site.west.calls[-1].json["messages"][0] == {"role": "system", "content": "You are a pirate."}
    site.west.script(Status(500, "Shiver me timbers."))
    answer = chat.ask("And now?")
    ended(answer, "failed")
    visitor.forgive(502)
    assert site.east.calls == []


def test_what_was_rewritten_and_tried_is_told(chat: Chat, site: Site) -> None:
    site.west.script(Status(503))
    chat.choose("house")
    answer = chat.told("Hello?")
    expect(fact(answer, "upstream")).to_have_text("east")
    expect(fact(answer, "attempts")).to_contain_text("west")
    expect(fact(answer, "changes")).to_contain_text("temperature")


def test_the_cost_follows_from_the_prices_of_who_answered(chat: Chat, site: Site) -> None:
    site.west.script(Say("one two three four five"))
    chat.choose("house")
    expect(fact(chat.told("Hello?"), "cost")).to_have_text("$0.005")
    chat.choose("east/gpt-4o")
    expect(fact(chat.told("And you?"), "cost")).to_have_count(0)  # nobody knows


def test_a_refusal_says_who_refused_and_when_to_come_back(chat: Chat, site: Site, visitor: Visitor) -> None:
    for double in (site.west, site.east):
        double.script(Status(429, retry_after=20))
    chat.choose("house")
    answer = chat.ask("Hello?")
    ended(answer, "failed")
    visitor.forgive(429)
    expect(answer.get_by_test_id("failure")).to_contain_text("try again in 20 s")
    expect(fact(answer, "attempts")).to_have_text("west:429 → east:429")


def test_a_parameter_that_cannot_be_sent_is_marked(chat: Chat, site: Site) -> None:
    chat.page.locator("#tune").click()
    temperature = chat.page.locator("#temperature")
    temperature.fill("2")
    fine = temperature.evaluate("node => getComputedStyle(node).borderColor")
    temperature.fill("9")
    expect(temperature).not_to_have_css("border-color", fine)
    chat.told("Hello?")
    assert "temperature" not in site.east.calls[-1].json


def test_an_error_is_said_plainly(chat: Chat, site: Site, visitor: Visitor) -> None:
    site.east.script(Status(400, "Your prompt is not to our taste."))
    answer = chat.ask("Hello?")
    ended(answer, "failed")
    visitor.forgive(400)
    expect(answer.get_by_test_id("failure")).to_contain_text("Your prompt is not to our taste.")
    site.east.script(breaks_when_released)
    answer = chat.ask("And now?")
    ended(answer, "streaming")
    site.east.release()
    ended(answer, "failed")
    expect(answer.get_by_test_id("failure")).to_contain_text(
        "This answer is incomplete. The upstream reported an error: The engine fell out."
    )
    expect(text(answer)).not_to_be_empty()


def test_the_keyboard_is_enough(chat: Chat, site: Site) -> None:
    prompt, keyboard = chat.page.locator("#prompt"), chat.page.keyboard
    expect(prompt).to_be_focused()
    keyboard.type("Two")
    keyboard.press("Shift+Enter")
    keyboard.type("lines?")
    keyboard.press("Enter")
    ended(chat.answer)
    assert asked(site) == [{"role": "user", "content": "Two\nlines?"}]
    chat.answer.get_by_test_id("regenerate").focus()
    keyboard.press("/")
    expect(prompt).to_be_focused()
    keyboard.press("ArrowUp")
    expect(chat.page.get_by_test_id("edit-prompt")).to_be_focused()
    keyboard.press("Escape")
    expect(chat.page.get_by_test_id("prompt-text")).to_be_visible()


def test_a_prompt_that_is_long_is_no_longer_than_the_screen(chat: Chat, site: Site) -> None:
    chat.told("Short.")
    prompt = chat.page.get_by_test_id("prompt-text")
    assert prompt.evaluate("(node) => node.scrollHeight === node.clientHeight")  # nothing to scroll in it
    chat.page.locator("#prompt").evaluate("(field) => (field.value = 'a line of a log\\n'.repeat(2000))")
    chat.page.locator("#send").click()
    ended(chat.answer)
    expect(chat.answer).to_be_in_viewport()
    assert prompt.last.evaluate("(node) => node.offsetHeight < innerHeight && node.scrollHeight > innerHeight")


def test_the_keys_for_pages_turn_those_of_the_conversation(chat: Chat, site: Site) -> None:
    site.east.script(Say("one\n\n" * 200))
    ends = text(chat.told("Count.")).locator("p")
    expect(ends.last).to_be_in_viewport()
    for _ in range(20):
        chat.page.keyboard.press("PageUp")
    expect(ends.first).to_be_in_viewport()
    for _ in range(20):
        chat.page.keyboard.press("PageDown")
    expect(ends.last).to_be_in_viewport()
    expect(chat.page.locator("#prompt")).to_be_focused()


def test_the_keyboard_is_never_lost(chat: Chat, site: Site) -> None:
    page, prompt = chat.page, chat.page.locator("#prompt")
    chat.told("One?")  # by the button, which is hidden while the answer comes
    expect(prompt).to_be_focused()
    chat.answer.get_by_test_id("regenerate").press("Enter")
    expect(prompt).to_be_focused()
    ended(chat.answer)
    page.get_by_test_id("edit").press("Enter")
    page.keyboard.press("Escape")
    expect(page.get_by_test_id("edit")).to_be_focused()
    page.keyboard.press("Enter")
    page.get_by_test_id("edit-prompt").press("Enter")
    expect(prompt).to_be_focused()
    ended(chat.answer)
    site.east.script(HoldAfter(3))
    chat.ask("Two?")
    ended(chat.answer, "streaming")
    page.locator("#first-model").get_by_test_id("model-picker").click()
    page.locator("#first-model .tab").first.press("Escape")
    expect(page.locator("#first-model").get_by_test_id("model-picker")).to_be_focused()
    expect(page.locator("#first-model").get_by_test_id("model-panel")).to_be_hidden()
    ended(chat.answer, "streaming")
    page.locator("#stop").press("Enter")
    expect(prompt).to_be_focused()


def test_what_is_written_from_the_right_is_shown_from_the_right(chat: Chat, site: Site) -> None:
    hebrew = "שלום עולם."
    site.east.script(Say(f"{hebrew}\n\nAnd English."))
    answer = chat.told(hebrew)
    place = """(node, at) => {
      const range = document.createRange();
      range.setStart(node.firstChild, at);
      range.setEnd(node.firstChild, at + 1);
      return range.getBoundingClientRect().x;
    }"""
    for node in (chat.page.get_by_test_id("prompt-text"), text(answer).locator("p").first):
        assert node.evaluate(place, len(hebrew) - 1) < node.evaluate(place, 0)  # the full stop is the leftmost
    english = text(answer).locator("p").last
    assert english.evaluate(place, 11) > english.evaluate(place, 0)


def test_a_list_from_the_right_has_its_marks_at_the_right(chat: Chat, site: Site) -> None:
    site.east.script(Say("- שלום\n- עולם\n\n```\nx = 1\n```\n\n- English"))
    answer = text(chat.told("A list, please."))
    directions = answer.locator("ul").evaluate_all("(lists) => lists.map((each) => getComputedStyle(each).direction)")
    assert directions == ["rtl", "ltr"]
    expect(answer.locator(".code")).to_have_css("direction", "ltr")


FORMULAS = (
    "Euler: $e^{i\\pi} + 1 = 0$, \\(a_1 \\* b_1\\), \\[x_{1,2} = \\frac{-b \\pm \\sqrt{d}}{2a}\\] and $$\\int\\,dx$$.",
    "\\[\na\n- b \\\\\n= c\n\n+ d\n\\]",
    "$$\n\\begin{aligned}\n* x &< y \\\\\n\\end{aligned}\n$$",
    "$$\na_1 \\\\\n* b$$",
)
PRICES = "It is **$5** or $10, _not_ $7; it is in `$PRICE`."


def test_a_task_has_its_box_as_its_only_mark(chat: Chat, site: Site) -> None:
    site.east.script(Say("- [x] done\n- [ ] to do\n- no task"))
    items = text(chat.told("What is to do?")).locator("li")
    expect(items).to_have_text(["☑ done", "☐ to do", "no task"])
    assert items.evaluate_all("(all) => all.map((node) => getComputedStyle(node).listStyleType)") == [
        "none",
        "none",
        "disc",
    ]


def test_formulas_are_shown_as_they_were_said(chat: Chat, site: Site) -> None:
    site.east.script(Say("\n\n".join((*FORMULAS, PRICES))))
    answer = text(chat.told("Teach me."))
    for formula in FORMULAS:
        expect(answer).to_contain_text(formula, use_inner_text=True)
    expect(answer.locator("ul, em, strong")).to_have_text(["$5", "not"])
    expect(answer.locator("code")).to_have_text("$PRICE")


def test_a_failure_that_is_not_the_gateways_own_tells_its_status(chat: Chat, site: Site, visitor: Visitor) -> None:
    chat.page.route(
        "**/chat", lambda route: route.fulfill(status=413, content_type="text/html", body="<h1>Too large</h1>")
    )
    answer = chat.ask("Hello?")
    ended(answer, "failed")
    expect(answer.get_by_test_id("failure")).to_contain_text("The gateway answered with status 413.")
    chat.page.unroute_all()
    visitor.forgive(413)


def test_code_is_copied_as_it_was_said(chat: Chat, site: Site) -> None:
    site.east.said = Said("Look:\n\n```python\nif 1 < 2:\n    print('<b>')\n```\n\nThat is all.")
    answer = chat.told("Code, please.")
    expect(answer.locator("pre code")).to_have_text("if 1 < 2:\n    print('<b>')\n")
    answer.get_by_test_id("copy-code").click()
    chat.page.wait_for_function("navigator.clipboard.readText().then((text) => text.startsWith('if 1 < 2'))")
    answer.get_by_test_id("copy-answer").click()
    chat.page.wait_for_function("navigator.clipboard.readText().then((text) => text.startsWith('Look'))")
