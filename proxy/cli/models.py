"""`sluice models`: asks every upstream for its models and prints them with their limits and prices."""

import argparse
import asyncio
import os
from pathlib import Path

from proxy.cli.check import planned
from proxy.stages.catalog import Shelf


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command."""
    parser = subparsers.add_parser("models", help="list the models of every upstream")
    parser.add_argument("--config", type=Path, default=Path(os.environ.get("SLUICE_CONFIG", "config.yaml")))
    parser.add_argument("--upstream", help="only this one")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Prints a line per model; 1 where an upstream that is on could not be asked."""
    return asyncio.run(_run(arguments.config, arguments.upstream))


async def _run(config: Path, only: str | None) -> int:
    made = planned(config)
    failed = 0
    for name, shelf in made.catalog.shelves.items():
        if only not in (None, name):
            continue
        if not shelf.target.off and shelf.target.base:
            failed += not await made.catalog.refresh(shelf)
        _show(name, shelf)
    return 1 if failed else 0


def _show(name: str, shelf: Shelf) -> None:
    print(
        f"{name} ({shelf.provider}): {len(shelf.models)} models, {shelf.state}{shelf.trouble and ': ' + shelf.trouble}"
    )
    for model in shelf.models.values():
        prices = model.prices or {}
        cost = "  ".join(f"{kind} ${price:g}/M" for kind, price in prices.items())
        print(f"  {name}/{model.id:<50} context {model.context or '?':>8}  output {model.output or '?':>7}  {cost}")
