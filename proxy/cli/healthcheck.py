"""`sluice healthcheck`: asks a running Sluice on this machine whether it is ready; for container health checks."""

import argparse
import asyncio
import os
from contextlib import suppress

from proxy.upstream.probing import status_of


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command."""
    parser = subparsers.add_parser("healthcheck", help="exit 0 if Sluice on this machine is ready")
    parser.add_argument("--port", type=_port, default=os.environ.get("PORT") or "8080", help="default: $PORT, or 8080")
    parser.set_defaults(run=run)


def _port(text: str) -> int:
    with suppress(ValueError):
        if 0 < (number := int(text)) < 65536:
            return number
    raise argparse.ArgumentTypeError(f"expected a port from 1 to 65535, got {text!r}")


async def _asked(port: int) -> int:
    """The status of /readyz at this port; tries ::1 if nothing listens at 127.0.0.1, as with `host: "::"`."""
    return await status_of(f"http://127.0.0.1:{port}/readyz") or await status_of(f"http://[::1]:{port}/readyz")


def run(arguments: argparse.Namespace) -> int:
    """0: ready, 1: not."""
    status = asyncio.run(_asked(arguments.port))
    print("ready" if status == 200 else f"not ready ({status or 'no answer'})")
    return 0 if status == 200 else 1
