"""What the commands that start from a configuration share: how they are told its file, and what follows from it."""

import argparse
import os
from pathlib import Path

from proxy.planning import Plan, load_settings, plan


def add_config(parser: argparse.ArgumentParser, name: str = "--config") -> None:
    """Adds the configuration's file, as an option or as an argument that may be left out."""
    usual = Path(os.environ.get("SLUICE_CONFIG") or "config.yaml")
    help = "else $SLUICE_CONFIG, else config.yaml"
    if name.startswith("-"):
        parser.add_argument(name, type=Path, default=usual, help=help)
    else:
        parser.add_argument(name, nargs="?", type=Path, default=usual, help=help)


def load_plan(config: Path) -> Plan:
    """The plan of a file, by which nothing is started. Raises ConfigError."""
    return plan(load_settings(config, os.environ))
