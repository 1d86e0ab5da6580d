"""The configuration argument shared by several commands, and the plan made from it."""

import argparse
import os
from pathlib import Path

from proxy.planning import Plan, load_settings, plan


def add_config(parser: argparse.ArgumentParser, name: str = "--config") -> None:
    """Adds the configuration file, as an option or an optional argument."""
    usual = Path(os.environ.get("SLUICE_CONFIG") or "config.yaml")
    help = "configuration file; default: $SLUICE_CONFIG, or config.yaml"
    if name.startswith("-"):
        parser.add_argument(name, type=Path, default=usual, help=help)
    else:
        parser.add_argument(name, nargs="?", type=Path, default=usual, help=help)


def load_plan(config: Path) -> Plan:
    """The plan of a configuration file; nothing is started. Raises ConfigError."""
    return plan(load_settings(config, os.environ))
