"""`sluice healthcheck`: asks a running Sluice on this machine whether it is ready; for container health checks."""

import argparse
import asyncio
import os
from contextlib import suppress

from proxy.hosts import url_host
from proxy.settings.addresses import bare_host
from proxy.upstream.probing import status_of


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command."""
    parser = subparsers.add_parser("healthcheck", help="exit 0 if Sluice on this machine is ready")
    parser.add_argument("--host", help="where it listens; default: 127.0.0.1 and ::1")
    parser.add_argument("--port", type=_port, default=os.environ.get("PORT") or "8080", help="default: $PORT, or 8080")
    parser.set_defaults(run=run)


def _port(text: str) -> int:
    with suppress(ValueError):
        if 0 < (number := int(text)) < 65536:
            return number
    raise argparse.ArgumentTypeError(f"expected a port from 1 to 65535, got {text!r}")


async def _asked(host: str | None, port: int) -> int:
    """The status of /readyz at the first of the hosts where anything listens; 0: there is none."""
    hosts = ("127.0.0.1", "::1") if host is None else (bare_host(host),)
    statuses = await asyncio.gather(*(status_of(f"http://{url_host(host)}:{port}/readyz") for host in hosts))
    return next(filter(None, statuses), 0)


def run(arguments: argparse.Namespace) -> int:
    """0: ready, 1: not."""
    status = asyncio.run(_asked(arguments.host, arguments.port))
    print("ready" if status == 200 else f"not ready ({status or 'no answer'})")
    return 0 if status == 200 else 1
