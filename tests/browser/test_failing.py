"""A gateway that goes away, or hangs, and comes back: the pages say so, in words, and go on by themselves."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.chatting import Chat, ended
from tests.browser.conftest import Site, Visitor, know
from tests.doubles.faults import Held
from tests.doubles.openai import OpenAIDouble
from tests.journeys.test_stopping import serving
from tests.running import Running, free_port, sluice

CONFIG = """
upstreams:
  east: {{provider: openai, base_url: "{east}"}}
personas:
  pirate: {{upstream: east, model: gpt-4o, system: You are a pirate.}}
"""


class Restarting:
    """A gateway that can be taken away from its port, and put there again."""

    def __init__(self, config: str) -> None:
        self.config = config
        self.port = free_port()
        self.stack = ExitStack()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Running:
        running = self.stack.enter_context(sluice(self.config, port=self.port))
        know(running, "east/gpt-4o")
        return running

    def stop(self) -> None:
        self.stack.close()


@pytest.fixture
def gateway() -> Iterator[Restarting]:
    with OpenAIDouble(key="") as east:
        gateway = Restarting(CONFIG.format(east=east.url))
        gateway.start()
        yield gateway
        gateway.stop()


def test_the_admin_page_says_that_nothing_answers_and_goes_on_when_something_does(
    gateway: Restarting, visitor: Visitor
) -> None:
    page = visitor.open(f"{gateway.url}/admin#configuration")
    trouble, view = page.locator("#trouble"), page.locator("#view")
    expect(page.get_by_test_id("config-state")).to_contain_text("is in force")
    gateway.stop()
    page.get_by_test_id("reload").click()
    expect(page.get_by_test_id("reload-result")).to_have_text(
        "The gateway cannot be reached. It is unknown whether the reload happened."
    )
    expect(trouble).to_contain_text("The gateway cannot be reached. Trying again. The data shown is from ")
    page.locator('.side nav a[href="#models"]').click()
    expect(view).to_contain_text("The gateway cannot be reached.")
    page.locator('.side nav a[href="#routes"]').click()
    page.get_by_test_id("explain-input").fill("gpt-4o")
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("explained")).to_have_text("The gateway cannot be reached.")
    page.locator('.side nav a[href="#personas"]').click()
    expect(page.locator('[data-persona="pirate"]')).to_have_count(0)
    gateway.start()
    expect(trouble).to_be_hidden()
    expect(page.locator('[data-persona="pirate"]')).to_be_visible()
    page.locator('.side nav a[href="#models"]').click()
    expect(page.locator('[data-model="east/gpt-4o"]')).to_be_visible()
    visitor.forgive("net::ERR_")


def test_the_chat_takes_back_its_notice_once_something_answers(gateway: Restarting, visitor: Visitor) -> None:
    chat = Chat(visitor.open(f"{gateway.url}/ui"))
    chat.told("Hello?")
    gateway.stop()
    chat.page.locator("#first-model").get_by_test_id("model-picker").click()
    trouble = chat.page.locator("#trouble")
    expect(trouble).to_have_text("The list of models could not be loaded: The gateway cannot be reached.")
    chat.page.keyboard.press("Escape")
    failed = chat.ask("And now?")
    ended(failed, "failed")
    expect(failed.get_by_test_id("failure")).to_contain_text("The gateway cannot be reached.")
    gateway.start()
    failed.get_by_test_id("regenerate").click()
    ended(chat.answer)
    expect(trouble).to_be_hidden()
    visitor.forgive("net::ERR_")


def test_a_gateway_that_hangs_is_told_on_both_pages(tmp_path: Path, visitor: Visitor) -> None:
    with OpenAIDouble(key="") as east:
        config = "server: {port: 0}\n" + CONFIG.format(east=east.url)
        with serving(tmp_path, config) as (process, port, _):
            chat = Chat(visitor.open(f"http://127.0.0.1:{port}/ui"))
            chat.told("Hello?")
            admin = visitor.open(f"http://127.0.0.1:{port}/admin#configuration")
            expect(admin.get_by_test_id("config-state")).to_contain_text("is in force")
            process.send_signal(signal.SIGSTOP)
            chat.page.locator("#first-model").get_by_test_id("model-picker").click()
            expect(chat.page.get_by_role("listbox")).to_contain_text("Asking the gateway…")
            expect(chat.page.locator("#trouble")).to_contain_text("The gateway cannot be reached.")
            expect(chat.page.get_by_role("listbox")).to_contain_text("No model is available.")
            chat.page.keyboard.press("Escape")
            answer = chat.ask("Anybody?")
            ended(answer, "waiting")
            expect(admin.locator("#trouble")).to_contain_text("The gateway cannot be reached. Trying again.")
            process.send_signal(signal.SIGCONT)
            ended(answer)
            expect(chat.page.locator("#trouble")).to_be_hidden()
            expect(admin.locator("#trouble")).to_be_hidden()
            visitor.leave()


def test_an_answer_tells_of_a_long_silence_and_of_its_end(site: Site, visitor: Visitor) -> None:
    assert visitor.context.browser
    with visitor.context.browser.new_context() as context:  # a clock is of a whole context
        context.clock.install()
        page = context.new_page()
        page.goto(f"{site.url}/ui")
        site.east.script(Held())
        answer = Chat(page).ask("Hello?")
        silence = answer.get_by_test_id("silence")
        ended(answer, "waiting")
        expect(silence).to_be_hidden()
        page.clock.fast_forward(60_000)
        expect(silence).to_be_visible()
        site.east.release()
        ended(answer)
        expect(silence).to_have_count(0)
