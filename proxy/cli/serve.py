"""`sluice serve`: runs the proxy until a signal ends it."""

import argparse
import asyncio
import logging
import os
import signal
import sys
from typing import Final

from proxy.app import Sluice
from proxy.cli.configured import add_config
from proxy.doors.front import cross_origin
from proxy.hosts import url_host
from proxy.instruments import Instruments
from proxy.logs import configure, dropped_lines
from proxy.orphans import end_with_parent
from proxy.planning import load_settings
from proxy.serving.limits import Limits
from proxy.serving.listening import inherited_sockets
from proxy.serving.running import Drain, Hooks, Serving, serve
from proxy.serving.workers import ENVIRONMENT, Place, Supervisor, place_of

NOTICE: Final = 2.0
"""Seconds after SIGTERM for which connections are still accepted while calls run, until load balancers notice."""

log = logging.getLogger("sluice")


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command."""
    parser = subparsers.add_parser("serve", help="run the proxy")
    add_config(parser)
    parser.add_argument("--host", help="overrides server.host")
    parser.add_argument("--port", type=int, help="overrides server.port")
    parser.add_argument("--workers", type=int, help="overrides server.workers")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Serves; 2 if the configuration is invalid, 1 if the address is not available."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # it would end a process that cannot reload yet
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})  # workers start with it blocked
    over = {key: value for key in ("host", "port", "workers") if (value := getattr(arguments, key)) is not None}
    settings = load_settings(arguments.config, os.environ, over)
    made = Instruments()
    writer = configure(settings.log.format, settings.log.level, dropped_lines(made))
    try:
        place = place_of(os.environ.get(ENVIRONMENT))
        if place is not None:
            end_with_parent(place.parent, signal.SIGTERM)
        if settings.server.workers > 1 and place is None:
            command = [sys.executable, *sys.orig_argv[1:]]  # as this process: `-m` might find another `proxy` first
            supervisor = Supervisor(command, settings.server.workers, settings.server.drain)
            return supervisor.run(settings.server.host, settings.server.port)
        drain = Drain()
        app = Sluice(
            arguments.config, os.environ, settings, over, lambda: drain.draining, writer, place, instruments=made
        )
        return _served(app, drain, place)
    finally:
        writer.close()


def _served(app: Sluice, drain: Drain, place: Place | None) -> int:
    server = app.settings.server
    timeouts = server.timeouts
    limits = Limits(timeouts.header, timeouts.body, timeouts.write, max_body=server.max_body)
    reloads: set[asyncio.Task[bool]] = set()

    def reload() -> None:
        task = asyncio.get_running_loop().create_task(app.reloads.attempt())
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    hooks = Hooks(
        on_listening=announced if place is None else lambda host, port: None,
        on_drain=lambda: log.info("draining: running calls may finish"),
        on_reload=reload,
        on_error=lambda headers: cross_origin(headers, app.runtime.front.cors),
    )
    sockets = inherited_sockets(place.sockets) if place is not None else None
    notice = NOTICE if place is None else 0.0  # with several workers, the others keep the address ready
    return serve(app, Serving(server.host, server.port, server.drain, notice, limits), drain, hooks, sockets)


def announced(host: str, port: int) -> None:
    """Logs the address."""
    log.info("Sluice listens on http://%s:%d", url_host(host), port)
