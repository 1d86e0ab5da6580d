"""What operators decide is in force at once, stays so, and reaches every process with the same store."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from threading import Event

import pytest
from starlette.types import Message

from proxy.app import Sluice
from proxy.planning import load_settings
from proxy.store.sqlite import SqliteStore
from tests.waiting import until

CONFIG = """
store: sqlite:///kept.db
upstreams:
  east: {provider: openai, base_url: "http://127.0.0.1:1/v1", models: [m]}
  west: {provider: openai, base_url: "http://127.0.0.1:1/v1", models: [m]}
default_upstream: east
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    return path


@asynccontextmanager
async def living(app: Sluice) -> AsyncIterator[None]:
    """The app between its startup and its shutdown, without a server."""
    said = asyncio.Queue[Message]()
    told = asyncio.Queue[Message]()
    running = asyncio.ensure_future(app({"type": "lifespan"}, said.get, told.put))
    said.put_nowait({"type": "lifespan.startup"})
    async with asyncio.timeout(10):
        yield
        said.put_nowait({"type": "lifespan.shutdown"})
        await running


def test_what_is_decided_while_a_process_starts_is_taken_over(config: Path) -> None:
    app = Sluice(config, {}, load_settings(config, {}))  # has read the store
    with closing(SqliteStore(config.parent / "kept.db")) as store:
        store.write("settings", "default_upstream", "west")

    async def live() -> None:
        async with living(app):
            await until(lambda: app.default_upstream() == "west")

    asyncio.run(live())


class Lagging(SqliteStore):
    """A store whose settings, once read, come no sooner than they are let go."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.reads, self.let_go = 0, Event()

    def read(self, kind: str) -> dict[str, str]:
        found = super().read(kind)
        if kind == "settings":
            self.reads += 1
            self.let_go.wait(10)
        return found


def test_what_is_decided_while_the_store_is_read_stays_decided(config: Path) -> None:
    app = Sluice(config, {}, load_settings(config, {}))
    app.decisions.store.close()
    app.decisions.store = app.ledger.store = store = Lagging(config.parent / "kept.db")

    async def live() -> None:
        async with living(app):
            await until(lambda: store.reads)
            await app.control.switch_default("west")
            store.let_go.set()
            while store.reads < 2:
                assert app.default_upstream() == "west"
                await asyncio.sleep(0)

    asyncio.run(live())
