"""One headless Chromium for all tests here, watched: no page may complain, or talk to anybody but its own gateway."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.doubles.openai import OpenAIDouble
from tests.running import Running, sluice
from tests.waiting import wait_for

pytest.importorskip("playwright", reason="playwright is not installed: scripts/install dev")
from playwright.sync_api import BrowserContext, ConsoleMessage, Error, Page, Request, expect, sync_playwright  # noqa: E402

CHROMIUM = Path("/usr/bin/chromium")
PATIENCE = 15_000  # milliseconds that any one condition may take
CONFIG = """
upstreams:
  east: {{provider: openai, base_url: "{east}", api_key: key-of-east}}
  west: {{provider: openai, base_url: "{west}", api_key: key-of-west, prices: {{gpt-4o: {{input: 0, output: 1000}}}}}}
  asleep: {{provider: openrouter}}
default_upstream: east
defaults:
  retry: {{attempts: 1}}
routes:
  - model: house
    to: [west/gpt-4o, east/gpt-4o]
    request: {{set: {{temperature: 0.5}}}}
  - prefix: gpt-
    to: [asleep/openai/{{model}}, east]
  - model: kept
    to: east/gpt-4o-mini
    cache: {{exact: 1h, sampled: true}}
personas:
  pirate: {{upstream: west, model: gpt-4o-mini, system: You are a pirate., set: {{temperature: 1}}}}
"""


# Of the folder, not of the session: Playwright keeps an event loop on this thread while it runs, and the tests of other
# folders start their own there. One context for all, since a new one costs as much as a test: a gateway's port is an
# origin of its own, so nothing is kept from one test to the next but cookies.
@pytest.fixture(scope="package")
def context() -> Iterator[BrowserContext]:
    if not CHROMIUM.exists():
        pytest.skip(f"no {CHROMIUM}: scripts/install-browser")
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        context = browser.new_context(permissions=["clipboard-read", "clipboard-write"], reduced_motion="reduce")
        context.set_default_timeout(PATIENCE)
        yield context
        browser.close()


@dataclass  # without slots: Playwright leaves marks on whose methods it calls
class Visitor:
    """Opens pages as somebody who has never been there, and notes what is wrong with them."""

    context: BrowserContext
    pages: list[Page] = field(default_factory=list)
    origins: set[str] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)

    def open(self, url: str, *, width: int = 1280, dark: bool = False) -> Page:
        """A page at this address; one that was left before if there is one, which takes half the time."""
        page = next((page for page in self.context.pages if page not in self.pages), None) or self.context.new_page()
        self.pages.append(page)
        self.origins.add("{0.scheme}://{0.netloc}/".format(urlsplit(url)))
        page.set_viewport_size({"width": width, "height": 800})
        page.emulate_media(color_scheme="dark" if dark else "light")
        page.on("request", self.asked)
        page.on("console", self.said)
        page.on("pageerror", self.threw)
        page.goto(url)
        return page

    def asked(self, request: Request) -> None:
        if not request.url.startswith((*self.origins, "blob:")):
            self.faults.append(f"a request to {request.url}")

    def said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.faults.append(f"console: {message.text}")

    def threw(self, error: Error) -> None:
        self.faults.append(f"uncaught: {error}")

    def forgive(self, status: int | str) -> None:
        """Takes out what browsers log of a failed request by themselves. Fails where none failed like that.

        `status`: of its answer, or how Chromium's code begins where none came.
        """
        why = f"the server responded with a status of {status} " if isinstance(status, int) else status
        forgiven = [fault for fault in self.faults if fault.startswith(f"console: Failed to load resource: {why}")]
        assert forgiven, f"nothing failed by {status}: {self.faults}"
        self.faults = [fault for fault in self.faults if fault not in forgiven]

    def leave(self) -> None:
        """Leaves every page, and nothing behind."""
        for page in self.pages[1:]:
            page.close()
        for page in self.pages[:1]:
            page.evaluate("() => (localStorage.clear(), sessionStorage.clear())")
            page.remove_listener("request", self.asked)
            page.goto("about:blank")
            page.remove_listener("console", self.said)
            page.remove_listener("pageerror", self.threw)
        self.pages.clear()
        self.context.clear_cookies()


@pytest.fixture
def visitor(context: BrowserContext) -> Iterator[Visitor]:
    """To be asked for behind the gateway's fixture: its pages must be left while the gateway still runs."""
    visitor = Visitor(context)
    try:
        yield visitor
    finally:
        visitor.leave()
    assert visitor.faults == []


@dataclass(slots=True)
class Site:
    """A gateway with two upstreams of its own."""

    running: Running
    east: OpenAIDouble  # the default
    west: OpenAIDouble

    @property
    def url(self) -> str:
        return self.running.url


@pytest.fixture
def site() -> Iterator[Site]:
    with ExitStack() as stack:
        east, west = (stack.enter_context(OpenAIDouble(key=f"key-of-{name}")) for name in ("east", "west"))
        running = stack.enter_context(sluice(CONFIG.format(east=east.url, west=west.url)))
        know(running, "east/gpt-4o", "west/gpt-4o")
        yield Site(running, east, west)


def know(running: Running, *models: str, seconds: float = 10) -> None:
    """Waits until the gateway lists these models."""
    with running.client() as client:

        def listed() -> bool:
            found = {model["id"] for model in client.get("/v1/models").json()["data"]}
            return found.issuperset(models)

        wait_for(listed, seconds)
