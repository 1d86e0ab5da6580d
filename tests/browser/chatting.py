"""What a person does on the chat page."""

from dataclasses import dataclass

from playwright.sync_api import Locator, Page, expect


@dataclass(frozen=True, slots=True)
class Chat:
    """A chat page that is open."""

    page: Page

    def ask(self, text: str) -> Locator:
        """Sends a prompt; gives its answer as it comes."""
        self.page.locator("#prompt").fill(text)
        self.page.locator("#send").click()
        return self.answer

    def told(self, text: str) -> Locator:
        """Sends a prompt; gives its answer when it is whole."""
        answer = self.ask(text)
        ended(answer)
        return answer

    def choose(self, model: str, place: str = "first-model") -> None:
        """Picks a model by hand; "" is the default."""
        picker = self.page.locator(f"#{place}")
        if not picker.get_by_test_id("model-panel").is_visible():
            picker.get_by_test_id("model-picker").click()
        picker.locator(f'[role=option][data-model="{model}"]').click()

    @property
    def answer(self) -> Locator:
        """The newest answer."""
        return self.page.get_by_test_id("answer").last

    @property
    def turns(self) -> Locator:
        return self.page.locator(".turn")


def ended(answer: Locator, state: str = "done") -> None:
    """Waits until an answer has ended like this."""
    expect(answer).to_have_attribute("data-state", state)


def text(answer: Locator) -> Locator:
    """What the model said."""
    return answer.get_by_test_id("answer-text")


def fact(answer: Locator, name: str) -> Locator:
    """One of the facts below an answer."""
    return answer.locator(f'[data-fact="{name}"]')


def fits(page: Page) -> bool:
    """Whether neither the page nor its conversation scrolls sideways."""
    within = "[document.documentElement, ...document.querySelectorAll('.scroller, .admin')]"
    return bool(page.evaluate(f"{within}.every((node) => node.scrollWidth <= node.clientWidth)"))
