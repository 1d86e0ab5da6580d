"""`sluice models`: asks every upstream for its models and prints them with limits and prices."""

import argparse
import asyncio
import os
import sys
from collections.abc import Mapping
from typing import Final

from proxy.cli.configured import add_config
from proxy.planning import Plan, load_settings, plan
from proxy.settings import Settings
from proxy.settings.problems import printable, suggestion_or_all
from proxy.stages.catalog import Shelf
from proxy.upstream.embedded import EmbeddedModel, packaged
from proxy.upstream.sending import Upstreams

_LOADING: Final = 60.0  # seconds for an embedded model to start

Embedded = Mapping[str, EmbeddedModel]
"""By upstream: the embedded models, which are started for this."""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command."""
    parser = subparsers.add_parser("models", help="list the models of every upstream")
    add_config(parser)
    parser.add_argument("--upstream", help="only of this upstream")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Prints a line per model; 1 if an upstream that is switched on could not be reached."""
    settings = load_settings(arguments.config, os.environ)
    names = [arguments.upstream] if arguments.upstream is not None else list(settings.upstreams)
    if not settings.upstreams.keys() >= set(names):
        hint = suggestion_or_all(arguments.upstream, settings.upstreams)
        print(printable(f'{arguments.config}: no upstream is called "{arguments.upstream}"{hint}'), file=sys.stderr)
        return 2
    return asyncio.run(_run(settings, names))


async def _run(settings: Settings, names: list[str]) -> int:
    embedded = {name: packaged() for name in names if settings.upstreams[name].embedded}
    upstreams = Upstreams()
    made = plan(settings, upstreams, {name: model.base for name, model in embedded.items()})
    try:
        for model in embedded.values():
            await model.start()
        answered = [await _asked(made, name, embedded) for name in names]
    finally:
        for model in embedded.values():
            await model.stop()
        await upstreams.aclose()
    return 0 if all(answered) else 1


async def _asked(made: Plan, name: str, embedded: Embedded) -> bool:
    """Asks one upstream and prints its answer; returns False if it is on and could not be reached."""
    shelf, answered = made.catalog.shelves[name], True
    if not shelf.target.off:
        if model := embedded.get(name):
            await model.settled(_LOADING)
        if model and model.state != "ready":
            shelf.trouble, answered = model.state, False
        else:
            answered = await made.catalog.refresh(shelf)
    _show(name, shelf)
    return answered


def _show(name: str, shelf: Shelf) -> None:
    count = len(shelf.models)
    trouble = printable(shelf.said or shelf.trouble)
    state = f"{shelf.state}: {trouble}" if trouble else shelf.state
    print(f"{name} ({shelf.provider}): {count} {'model' if count == 1 else 'models'}, {state}")
    for model in shelf.models.values():
        prices = model.prices or {}
        cost = "  ".join(f"{kind} ${price:g}/M" for kind, price in prices.items())
        limits = f"context {model.context or '?':>8}  output {model.output or '?':>7}"
        print(f"  {name}/{printable(model.id):<50} {limits}  {cost}")
