"""The admin page: what it shows is so, and what it switches is switched."""

import json
import re
from datetime import datetime, timedelta

from playwright.sync_api import Page, expect

from tests.browser.chatting import Chat, fact, fits, text
from tests.browser.conftest import Site, Visitor
from tests.doubles.faults import HoldAfter, Status
from tests.waiting import wait_for

HELLO = {"model": "east/gpt-4o", "messages": [{"role": "user", "content": "Hello?"}]}
VIEWS = ("overview", "upstreams", "models", "personas", "keys", "routes", "calls", "cache", "vapi", "configuration")


def admin(visitor: Visitor, site: Site, view: str) -> Page:
    return visitor.open(f"{site.url}/admin#{view}")


def test_switching_the_default_moves_the_next_call(site: Site, visitor: Visitor) -> None:
    chat = Chat(visitor.open(f"{site.url}/ui"))
    expect(fact(chat.told("Who?"), "upstream")).to_have_text("east")
    page = admin(visitor, site, "upstreams")
    expect(page.get_by_test_id("default-upstream")).to_have_text("east")
    page.locator('[data-upstream="west"]').get_by_test_id("make-default").press("Enter")
    expect(page.get_by_test_id("default-upstream")).to_have_text("west")
    said = page.locator("p", has=page.get_by_test_id("default-upstream"))
    expect(said).to_be_focused()  # the button is gone
    expect(fact(chat.told("And now?"), "upstream")).to_have_text("west")
    page.keyboard.press("Tab")
    expect(page.get_by_test_id("default-back")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("default-upstream")).to_have_text("east")
    expect(said).to_be_focused()
    expect(fact(chat.told("And now?"), "upstream")).to_have_text("east")
    assert (len(site.east.calls), len(site.west.calls)) == (2, 1)


def test_an_upstream_that_is_off_says_why_and_cannot_be_the_default(site: Site, visitor: Visitor) -> None:
    page = admin(visitor, site, "upstreams")
    card = page.locator('[data-upstream="asleep"]')
    expect(card).to_contain_text("OPENROUTER_API_KEY")
    expect(card.get_by_test_id("make-default")).to_be_disabled()


def test_a_persona_is_made_changed_called_and_deleted(site: Site, visitor: Visitor) -> None:
    page = admin(visitor, site, "personas")
    expect(page.locator('[data-persona="pirate"]')).to_contain_text("config.yaml")
    expect(page.locator('[data-persona="pirate"]').get_by_test_id("delete-persona")).to_have_count(0)
    page.get_by_test_id("new-persona").click()
    page.locator("#persona-name").fill("poet")
    page.locator("#persona-upstream").select_option("west")
    page.locator("#persona-model").fill("gpt-4o")
    page.locator("#persona-system").fill("Speak in rhymes.")
    page.locator("#persona-set").fill("{temperature")
    page.get_by_test_id("keep-persona").click()
    expect(page.locator("#persona-problem")).to_contain_text("Parameters:")
    page.locator("#persona-set").fill('{"temperature": 0.2}')
    page.get_by_test_id("keep-persona").click()
    card = page.locator('[data-persona="poet"]')
    expect(card).to_contain_text("temperature: 0.2")
    site.running.chat({**HELLO, "model": "persona/poet"}).raise_for_status()
    sent = site.west.calls[-1].json
    assert (sent["model"], sent["temperature"], sent["messages"][0]["content"]) == ("gpt-4o", 0.2, "Speak in rhymes.")

    card.get_by_test_id("change-persona").click()
    expect(page.locator("#persona-name")).to_have_value("poet")
    page.locator("#persona-system").fill("Speak in limericks.")
    page.get_by_test_id("keep-persona").click()
    expect(card).to_contain_text("Speak in limericks.")
    card.get_by_test_id("delete-persona").press("Enter")
    expect(card).to_have_count(0)
    expect(page.get_by_test_id("new-persona")).to_be_focused()
    assert site.running.chat({**HELLO, "model": "persona/poet"}).status_code == 404
    page.get_by_test_id("toast").get_by_text("Undo").click()
    expect(card).to_contain_text("Speak in limericks.")
    assert site.east.calls == []


def test_a_persona_whose_upstream_is_gone_says_so_until_it_has_another(site: Site, visitor: Visitor) -> None:
    with site.running.client() as client:
        client.post("/admin/personas", json={"name": "poet", "upstream": "asleep", "model": "x"}).raise_for_status()
    page = admin(visitor, site, "personas")
    card = page.locator('[data-persona="poet"]')
    expect(card).to_contain_text("asleep/x")
    expect(card).not_to_contain_text("It cannot be called")
    without = site.running.path.read_text().replace("  asleep: {provider: openrouter}\n", "")
    site.running.reload(without.replace("asleep/openai/{model}, ", ""))
    expect(card).to_contain_text("It cannot be called: config.yaml no longer has the upstream asleep.")
    card.get_by_test_id("change-persona").click()
    page.get_by_test_id("keep-persona").click()
    expect(page.locator("#persona-upstream:invalid")).to_be_focused()
    page.locator("#persona-upstream").select_option("west")
    page.get_by_test_id("keep-persona").click()
    expect(card).to_contain_text("west/x")
    expect(card).not_to_contain_text("It cannot be called")


def test_explain_shows_the_rule_and_sends_nothing(site: Site, visitor: Visitor) -> None:
    page = admin(visitor, site, "routes")
    page.get_by_test_id("explain-input").fill("gpt-4o")
    page.keyboard.press("Enter")
    explained = page.get_by_test_id("explained")
    expect(explained.get_by_test_id("explained-route")).to_have_text("gpt-")
    expect(explained.locator("[data-usable]")).to_have_count(2)
    expect(explained.locator('[data-usable="false"]')).to_contain_text("asleep/openai/gpt-4o")
    expect(explained.locator('[data-usable="false"]')).to_contain_text("OPENROUTER_API_KEY")
    expect(explained.locator('[data-usable="true"]')).to_contain_text("asked first")
    page.get_by_test_id("explain-input").fill(json.dumps({**HELLO, "model": "house", "temperature": 2}))
    page.get_by_test_id("explain").click()
    expect(explained.get_by_test_id("explained-route")).to_have_text("house")
    expect(explained.locator("[data-usable]").first).to_contain_text("set temperature")
    explained.locator("summary").first.click()
    expect(explained.locator("pre").first).to_contain_text('"temperature": 0.5')
    page.get_by_test_id("explain-input").fill("{not json")
    page.get_by_test_id("explain").click()
    expect(explained).to_contain_text("This is not JSON")
    assert site.east.calls == site.west.calls == []


def test_calls_with_their_attempts(site: Site, visitor: Visitor) -> None:
    page = admin(visitor, site, "calls")
    expect(page.locator("#view")).to_contain_text("No call yet")
    site.west.script(Status(503))
    moved = site.running.chat({**HELLO, "model": "house"}).headers["x-request-id"]
    site.east.script(Status(400, "No."))
    failed = site.running.chat(HELLO).headers["x-request-id"]
    row = page.locator(f'[data-call="{moved}"]')
    expect(row).to_contain_text("2 attempts")
    expect(page.locator("[data-call]")).to_have_count(2)
    page.get_by_test_id("calls-failed").check()
    expect(page.locator("[data-call]")).to_have_count(1)
    expect(page.locator(f'[data-call="{failed}"]')).to_be_visible()
    page.get_by_test_id("calls-failed").uncheck()
    page.get_by_test_id("calls-search").fill(moved)
    expect(page.locator("[data-call]")).to_have_count(1)
    row.get_by_role("button").click()
    expect(page.locator(".details:visible")).to_contain_text("house")
    expect(page.locator("#view")).not_to_contain_text("Hello?")


def test_a_call_whose_client_left_is_no_failed_one(site: Site, visitor: Visitor) -> None:
    site.east.script(HoldAfter(2))
    with site.running.client() as client:
        with client.stream("POST", "/v1/chat/completions", json={**HELLO, "stream": True}) as answer:
            next(answer.iter_raw())
    page = admin(visitor, site, "calls")
    expect(page.locator("[data-call]")).to_contain_text("client_cancelled")
    page.get_by_test_id("calls-failed").check()
    expect(page.locator("#view")).to_contain_text("No such call")


def test_the_overview_counts_what_goes_through(site: Site, visitor: Visitor) -> None:
    page = admin(visitor, site, "overview")
    expect(page.get_by_test_id("no-traffic")).to_be_visible()
    for _ in range(3):
        site.running.chat(HELLO).raise_for_status()
    expect(page.get_by_test_id("no-traffic")).to_be_hidden()
    expect(page.locator(".legend").first).to_contain_text("east")
    expect(page.locator(".standings [data-upstream]")).to_have_count(3)
    expect(page.locator(".standings [data-upstream=east]")).to_contain_text("default")


def test_no_number_of_the_overview_is_left_over_alone_in_the_last_row(site: Site, visitor: Visitor) -> None:
    page = visitor.open(f"{site.url}/admin")
    for width in (390, 720, 768, 1020, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        rows = page.get_by_test_id("stats").locator("> div").evaluate_all("(each) => each.map((one) => one.offsetTop)")
        assert rows[-1] == rows[-2], width


def test_the_catalogue_can_be_searched(site: Site, visitor: Visitor) -> None:
    page = admin(visitor, site, "models")
    expect(page.locator('[data-model="east/gpt-4o"]')).to_be_visible()
    page.get_by_test_id("catalogue-search").fill("4o mini")
    expect(page.get_by_test_id("catalogue").locator("[data-model]")).to_have_count(1)
    page.get_by_role("button", name="west", exact=True).click()
    expect(page.locator('[data-model="west/gpt-4o-mini"]')).to_be_visible()


def test_the_cache_is_shown_and_emptied(site: Site, visitor: Visitor) -> None:
    chat = Chat(visitor.open(f"{site.url}/ui"))
    chat.choose("kept")
    first = text(chat.told("Hello?")).text_content()
    chat.answer.get_by_test_id("regenerate").click()
    expect(fact(chat.answer, "cache")).to_contain_text("cache hit")
    expect(text(chat.answer)).to_have_text(first or "")
    assert len(site.east.calls) == 1
    page = admin(visitor, site, "cache")
    row = page.locator('[data-route="kept"]')
    expect(row).to_contain_text("kept")
    page.get_by_test_id("clear-cache").click()
    expect(page.get_by_test_id("toast")).to_contain_text("The cache is empty.")
    chat.answer.get_by_test_id("regenerate").click()
    wait_for(lambda: len(site.east.calls) == 2)


def test_a_bad_configuration_is_shown_and_the_last_good_one_stays(site: Site, visitor: Visitor) -> None:
    page = admin(visitor, site, "configuration")
    expect(page.get_by_test_id("config-state")).to_contain_text("is in force as it is on disk")
    good = site.running.path.read_text()
    site.running.path.write_text(good.replace("default_upstream", "defualt_upstream"))
    page.get_by_test_id("reload").click()
    expect(page.get_by_test_id("reload-result")).to_contain_text("Not reloaded")
    expect(page.get_by_test_id("config-state")).to_contain_text("defualt_upstream")
    visitor.forgive(400)
    page.goto(f"{site.url}/admin#overview")
    expect(page.locator("#config-warning")).to_be_visible()
    site.running.chat(HELLO).raise_for_status()
    site.running.path.write_text(good)
    page.goto(f"{site.url}/admin#configuration")
    page.get_by_test_id("reload").click()
    expect(page.get_by_test_id("reload-result")).to_contain_text("Reloaded at")
    expect(page.locator("#config-warning")).to_be_hidden()


def test_a_model_that_is_left_alone_is_told_with_why_and_when_it_is_tried_again(site: Site, visitor: Visitor) -> None:
    good = site.running.path.read_text()
    site.running.reload(good.replace("attempts: 1}", "attempts: 1}\n  breaker: {failures: 1, open_for: 2s}"))
    site.east.script(Status(503))
    site.running.chat(HELLO)
    notice = admin(visitor, site, "upstreams").locator('[data-upstream="east"] .notice')
    expect(notice).to_contain_text("gpt-4o paused. The upstream is overloaded: Something went wrong upstream. ")
    expect(notice).to_contain_text("The next call tries it again.")
    site.running.chat(HELLO).raise_for_status()
    expect(notice).to_have_count(0)


def test_the_door_of_vapi_is_shown_as_closed_until_it_has_a_secret(site: Site, visitor: Visitor) -> None:
    page = admin(visitor, site, "vapi")
    expect(page.locator("#view")).to_contain_text("Vapi is not enabled")
    site.running.reload(site.running.path.read_text() + "\nvapi: {secret: a-secret}\n")
    expect(page.locator("#view")).to_contain_text("No calls from Vapi yet")


def test_every_view_fits_a_phone(site: Site, visitor: Visitor) -> None:
    site.running.chat({**HELLO, "model": "house"}).raise_for_status()
    stop = "a stop sequence that is longer than a phone is wide, which happens"
    persona = {"name": 16 * "long", "upstream": "east", "model": "gpt-4o", "set": {"stop": [stop]}}
    with site.running.client() as client:
        client.post("/admin/personas", json=persona).raise_for_status()
    page = visitor.open(f"{site.url}/admin", width=375, dark=True)
    for view in VIEWS:
        page.locator("#open-side").click()
        page.locator(f'.side nav a[href="#{view}"]').click()
        expect(page.locator(f'#view[data-view="{view}"]')).not_to_be_empty()
        expect(page.locator("#trouble")).to_be_hidden()
        if view == "personas":
            expect(page.locator("[data-persona^=long]")).to_be_visible()
            name, tool = (page.locator(f"[data-persona^=long] {part}").first.bounding_box() for part in ("h2", ".tool"))
            assert name and tool and tool["y"] < name["y"] + name["height"]  # beside it, not on a line of its own
        assert fits(page), view


def test_no_column_is_cut_off_beside_the_side_column(site: Site, visitor: Visitor) -> None:
    for model in ("kept", "nobody-has/a-model-with-a-name-that-goes-on-and-on-20260101:extended"):
        site.running.chat({**HELLO, "model": model})
    for width in (768, 1024, 1130):
        page = visitor.open(f"{site.url}/admin", width=width)
        for view in ("models", "routes", "calls", "cache"):
            page.locator(f'.side nav a[href="#{view}"]').click()
            expect(page.locator(f'#view[data-view="{view}"] tbody tr').first).to_be_visible()
            assert page.locator(".card.flush").evaluate("card => card.scrollWidth <= card.clientWidth"), (view, width)


def test_a_call_tells_its_day_and_on_a_phone_all_that_a_wide_screen_shows(
    one_day: None, site: Site, visitor: Visitor
) -> None:
    failed = site.running.chat({**HELLO, "model": "west/gpt-4o"}).headers["x-request-id"]
    page = visitor.open(f"{site.url}/admin#calls", width=390)
    row = page.locator(f'[data-call="{failed}"]')
    row.get_by_role("button").click()
    year = str(datetime.now().year)
    for told in (year, "openai", "→", "$"):
        expect(page.locator(".details:visible")).to_contain_text(told)
    expect(row).not_to_contain_text(year)
    assert visitor.context.browser
    with visitor.context.browser.new_context() as tomorrow:  # a clock is of a whole context
        later = tomorrow.new_page()
        later.clock.set_system_time(datetime.now() + timedelta(days=1))
        later.goto(f"{site.url}/admin#calls")
        expect(later.locator(".call")).to_contain_text(re.compile(r"\w+ \w+, \d\d:\d\d:\d\d"))


def test_on_a_phone_each_row_of_a_table_is_a_block_with_nothing_cut_off(site: Site, visitor: Visitor) -> None:
    site.west.script(Status(503))
    for model in ("house", "kept", "nobody-has/a-model-with-a-name-that-goes-on-and-on-20260101:extended"):
        site.running.chat({**HELLO, "model": model})
    page = visitor.open(f"{site.url}/admin", width=390)
    for view in ("models", "routes", "calls", "cache"):
        page.locator("#open-side").click()
        page.locator(f'.side nav a[href="#{view}"]').click()
        rows = page.locator(f'#view[data-view="{view}"] tbody tr:visible')
        expect(rows.first).to_be_visible()
        right = page.locator(".card.flush").evaluate("card => card.getBoundingClientRect().right")
        for row in rows.all():
            cells = row.locator("td:visible")
            assert all(
                box and box["x"] + box["width"] <= right for box in (cell.bounding_box() for cell in cells.all())
            )
            block = row.bounding_box()
            assert block and block["height"] > 40  # more than one line
    page.goto(f"{site.url}/admin#models")
    facts = page.locator('[data-model="east/gpt-4o"] td')
    assert facts.nth(1).evaluate("cell => getComputedStyle(cell, '::before').content") == '"Context"'
