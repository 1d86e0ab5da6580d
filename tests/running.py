"""A Sluice under test: the real app behind the real server on a real socket, in a thread of this process."""

import asyncio
import faulthandler
import os
import secrets
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from proxy.app import Sluice
from proxy.instruments import Instruments
from proxy.logs import dropped_lines
from proxy.planning import load_settings
from proxy.serving.limits import Limits
from proxy.serving.listening import CannotListen, listen
from proxy.serving.running import Drain, Hooks, Server, Serving
from tests.waiting import wait_for


class ThreadedServer(Server):
    """The server without its hold on the process's signals."""

    def capture_signals(self) -> Any:
        return nullcontext()


@dataclass(slots=True)
class Running:
    """A running proxy and how to talk to it."""

    url: str  # "http://127.0.0.1:PORT"
    path: Path  # its config.yaml
    app: Sluice
    loop: asyncio.AbstractEventLoop
    headers: Mapping[str, str] = field(default_factory=dict)

    def client(self, **settings: Any) -> httpx.Client:
        """An HTTP client for it, environment proxies ignored."""
        return httpx.Client(
            base_url=self.url, trust_env=False, timeout=30, verify=False, headers=dict(self.headers), **settings
        )

    def chat(self, body: Mapping[str, Any], path: str = "/v1/chat/completions", **headers: str) -> httpx.Response:
        """One whole exchange."""
        with self.client() as client:
            return client.post(
                path, json=body, headers={name.replace("_", "-"): text for name, text in headers.items()}
            )

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples of this name that carry these labels."""
        total = 0.0
        for family in self.app.registry.collect():
            for sample in family.samples:
                if sample.name == name and all(sample.labels.get(key) == text for key, text in labels.items()):
                    total += sample.value
        return total

    def calm(self) -> None:
        """Waits until nothing is under way and all that was is counted, which comes behind an answer's last byte."""
        wait_for(lambda: not (self.metric("sluice_streams_open") or self.metric("sluice_in_flight")))
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), self.loop).result(10)

    def reload(self, text: str) -> None:
        """Takes over another configuration. Raises ConfigError."""
        self.path.write_text(text)
        asyncio.run_coroutine_threadsafe(self.app.reloads.reload(), self.loop).result(10)


@contextmanager
def sluice(
    config: str, environ: Mapping[str, str] | None = None, limits: Limits | None = None, port: int = 0
) -> Iterator[Running]:
    """Runs a proxy with this config.yaml; `environ` is all of its environment. `port`: 0 for a free one."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(config)
        environ = {"PATH": os.environ.get("PATH", "")} | dict(environ or {})
        settings = load_settings(path, environ)
        drain = Drain()
        instruments = Instruments()
        dropped_lines(instruments)  # there from the start, as `sluice serve` has it
        app = Sluice(path, environ, settings, draining=lambda: drain.draining, instruments=instruments)
        sockets = listen("127.0.0.1", port)
        serving = Serving(drain=1.0, limits=limits or Limits(max_body=settings.server.max_body))
        server = ThreadedServer(app, serving, drain, Hooks())
        started: list[asyncio.AbstractEventLoop] = []

        async def serve() -> None:
            started.append(asyncio.get_running_loop())
            await server.serve(sockets=sockets)

        thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
        thread.start()
        wait_for(lambda: server.started or not thread.is_alive())
        host, port = sockets[0].getsockname()[:2]
        try:
            yield Running(f"http://{host}:{port}", path, app, started[0])
        finally:
            server.should_exit = True
            thread.join(20)
            for sock in sockets:
                sock.close()
            if thread.is_alive():
                faulthandler.dump_traceback(file=sys.stderr)
                for task in asyncio.all_tasks(started[0]):
                    task.print_stack(file=sys.stderr)
                raise AssertionError("the server did not end")


def free_port() -> int:
    """A port that nobody listens on just now.

    Not one that the system hands out to whoever asks for any: another suite on this machine might get it meanwhile.
    """
    while True:
        port = 10_000 + secrets.randbelow(22_768)
        with suppress(CannotListen):
            (sock,) = listen("127.0.0.1", port)
            sock.close()
            return port
