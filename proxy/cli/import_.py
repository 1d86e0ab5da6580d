"""`sluice import litellm FILE`: another gateway's configuration converted to ours on stdout, findings on stderr."""

import argparse
import sys
from io import TextIOWrapper
from pathlib import Path

from proxy.importing.litellm import BadInput, convert


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command."""
    parser = subparsers.add_parser("import", help="convert LiteLLM's configuration to Sluice's")
    parser.add_argument("source", choices=("litellm",), help="the gateway that the configuration is from")
    parser.add_argument("file", type=Path, help="LiteLLM's config.yaml; - reads stdin")
    parser.add_argument("--strict", action="store_true", help="exit 1 if anything was unsupported")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """0: done, 1: nothing could be converted (or, with --strict, not everything), 2: unreadable input."""
    try:
        imported = convert(_given(arguments.file).decode("utf-8-sig"))
    except OSError as error:
        print(f"{arguments.file}: cannot be read: {error.strerror}", file=sys.stderr)
        return 2
    except UnicodeDecodeError:
        print(f"{arguments.file}: is not UTF-8", file=sys.stderr)
        return 2
    except BadInput as error:
        print(f"{arguments.file}: {error}", file=sys.stderr)
        return 2
    for finding in imported.findings:
        print(finding, file=sys.stderr)
    if not imported.text:
        print(f"{arguments.file}: none of its models can be converted", file=sys.stderr)
        return 1
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")  # config.yaml is UTF-8, whatever the locale says
    print(imported.text, end="")
    return 1 if arguments.strict and imported.findings.count("unsupported") else 0


def _given(file: Path) -> bytes:
    if str(file) != "-":
        return file.read_bytes()
    with open(0, "rb", closefd=False) as stdin:
        return stdin.read()
