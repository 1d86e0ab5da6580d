"""`sluice check`: validates a configuration, runs its routing tests and prints the routing table."""

import argparse
import sys
from typing import NoReturn

from proxy.cache_setup import make_cache
from proxy.cli.configured import add_config, load_plan
from proxy.planning import default_upstream
from proxy.warning import dangling_models, missing_extras


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command."""
    parser = subparsers.add_parser("check", help="validate a configuration and print its routing table")
    add_config(parser, "config")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Prints upstreams and routes; the routing tests have passed by then (a failure is a ConfigError, exit code 2).

    Warnings of a start go to stderr; what a start would refuse, a missing extra of the cache, is raised.
    """
    made = load_plan(arguments.config)
    settings = made.settings
    make_cache(settings, lambda route, result: None, _nobody)
    dangling = [f"{warning} (as far as this file shows)" for warning in dangling_models(made)]  # personas of /admin
    for warning in [*dangling, *missing_extras(settings)]:
        print(f"{arguments.config}: warning: {warning}", file=sys.stderr)
    print("upstreams")
    for name, upstream in settings.upstreams.items():
        print(f"  {name:<20} {upstream.provider:<12} {'on' if upstream.live else f'off: {upstream.reason}'}")
    print("routes (exact names first, then the longest prefix)")
    routes = made.compiler.routes()
    for route in sorted(routes, key=lambda route: (not route.exact, -len(route.match), route.match)):
        kind = "model " if route.exact else "prefix"
        targets = [
            f"{target.upstream}/{target.model}" + (f" x{target.weight}" if route.weighted else "")
            for target in route.to
        ]
        print(f"  {kind} {route.match:<24} -> {', '.join(targets)}{'' if route.written else '  (unwritten)'}")
    default = default_upstream(settings)
    print(f"  default                         -> {default + '/{model}' if default else 'none: 404'}")
    print(f"tests: {len(settings.tests)} passed")
    return 0


def _nobody() -> NoReturn:
    raise AssertionError("a cache that is only built asks no upstream")
